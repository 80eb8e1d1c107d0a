"""What comes with the package: the model `nano` and recordings to try it on."""
