"""What the metrics of a run have come to."""
