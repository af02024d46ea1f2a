"""What is logged beside numbers: pictures, tables, histograms, texts, pages, sound and films."""
