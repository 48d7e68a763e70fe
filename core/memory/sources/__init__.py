"""What fills recall: model calls, what programs print, mail. Nothing here may hurt what it listens to."""
