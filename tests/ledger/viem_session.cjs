// One session of a dapp with viem: deploys, calls, watches, signs. Arguments: HTTP URL, WebSocket URL, chain id, key,
// ABI and bytecode as JSON. Prints what it saw as JSON.
const path = require("path");
const modules = process.env.KOINON_NODE_MODULES;
const viem = require(path.join(modules, "viem"));
const { privateKeyToAccount } = require(path.join(modules, "viem", "accounts"));

async function main() {
  const [http, websocket, id, key, artefact] = process.argv.slice(2);
  const { abi, bytecode } = JSON.parse(artefact);
  const chain = viem.defineChain({
    id: Number(id),
    name: "koinon",
    nativeCurrency: { name: "coin", symbol: "KOI", decimals: 18 },
    rpcUrls: { default: { http: [http], webSocket: [websocket] } },
  });
  const account = privateKeyToAccount(key);
  const reader = viem.createPublicClient({ chain, transport: viem.http() });
  const listener = viem.createPublicClient({ chain, transport: viem.webSocket() });
  const writer = viem.createWalletClient({ chain, account, transport: viem.http() });
  const node = viem.createWalletClient({ chain, transport: viem.http() });

  const heads = [];
  const events = [];
  const deployed = await writer.deployContract({ abi, bytecode, args: [40n] });
  const { contractAddress: address } = await reader.waitForTransactionReceipt({ hash: deployed });
  let tell;
  const seen = new Promise((resolve) => { tell = () => heads.length && events.length && resolve(); });
  await listener.transport.subscribe({
    params: ["newHeads"],
    onData: (note) => { heads.push(note.result.number); tell(); },
  });
  await listener.transport.subscribe({
    params: ["logs", { address }],
    onData: (note) => { events.push(viem.decodeEventLog({ abi, ...note.result }).args.total); tell(); },
  });
  const { request, result } = await reader.simulateContract({
    account, address, abi, functionName: "increase", args: [2n],
  });
  const hash = await writer.writeContract(request);
  const receipt = await reader.waitForTransactionReceipt({ hash });
  await seen;
  let refusal = "";
  try {
    await reader.simulateContract({ account, address, abi, functionName: "increase", args: [0n] });
  } catch (error) {
    refusal = error.walk((cause) => cause instanceof viem.ContractFunctionRevertedError).reason;
  }
  const [rich] = await node.getAddresses();
  const message = await node.signMessage({ account: rich, message: "hello" });
  const unlocked = await node.sendTransaction({ account: rich, to: account.address, value: 1n });
  const fees = await reader.estimateFeesPerGas();
  const found = {
    simulated: result,
    total: await reader.readContract({ address, abi, functionName: "total" }),
    logs: viem.parseEventLogs({ abi, logs: receipt.logs }).map((log) => log.args.total),
    events,
    heads: heads.length,
    refusal,
    signed: await reader.verifyMessage({ address: rich, message: "hello", signature: message }),
    sent: (await reader.getTransaction({ hash: unlocked })).value,
    fees: Object.keys(fees),
    history: (await reader.getFeeHistory({ blockCount: 2, rewardPercentiles: [50] })).reward.length,
    past: (await reader.getContractEvents({ address, abi, eventName: "Increased", fromBlock: 0n })).length,
  };
  console.log(JSON.stringify(found, (_, value) => (typeof value === "bigint" ? Number(value) : value)));
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
