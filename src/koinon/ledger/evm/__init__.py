"""The Ethereum virtual machine, fork Cancun: interpreted when cold, compiled to Python block by block when hot."""
