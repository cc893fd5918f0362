// Reads Solidity standard JSON from standard input, writes the compiler's answer to standard output.
// The sources are all in the input: nothing is looked up on the disk but the compiler itself.
const fs = require("fs");
const solc = require("solc");

process.stdout.write(solc.compile(fs.readFileSync(0, "utf8")));
