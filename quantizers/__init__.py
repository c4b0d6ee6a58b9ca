"""What weights and activations become. Importing the package, scheme, plan or errors does not import torch."""
