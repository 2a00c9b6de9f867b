"""What can run: networks as arrays, the model file, the native scorer and its slow twin."""
