"""The roles an organisation can take, each following the chain and doing its part when its name comes up."""
