"""What a run was made with: who opened it, when, how, with which code and packages, on which machine."""
