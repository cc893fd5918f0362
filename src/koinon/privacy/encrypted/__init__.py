"""Computing on ciphertexts: answers for inputs that the model's owner never sees, and work handed to strangers."""
