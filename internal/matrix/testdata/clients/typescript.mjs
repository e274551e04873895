// npm @modelcontextprotocol/sdk
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

const [command, ...args] = process.argv.slice(2);
const client = new Client({ name: "matrix", version: "1" });
await client.connect(new StdioClientTransport({ command, args, env: process.env }));
console.log("tools:", (await client.listTools()).tools.map((t) => t.name).sort());
for (const [name, a] of [["read_it", { path: process.env.INSIDE }], ["read_it", { path: process.env.OUTSIDE }], ["environment", {}]]) {
  console.log(name + ":", JSON.stringify((await client.callTool({ name, arguments: a })).content));
}
await client.close();
