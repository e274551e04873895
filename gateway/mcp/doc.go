// Package mcp serves the tools by the Model Context Protocol, on standard
// input and output (ServeStdio) and as streamable HTTP (Handler), by the
// official Go SDK, which no other package imports. Client is the planner's end
// of such a server on two pipes (Dial), for programs that drive one, such as
// casemate demo.
//
// # Versions
//
// 2024-11-05, 2025-03-26, 2025-06-18, 2025-11-25 (by initialize) and
// 2026-07-28 (by server/discover; each request names its version). Over HTTP
// the SDK serves the former in its stateful mode and the latter in its
// stateless mode, and neither serves both; Handler picks the mode for each
// request. The HTTP and SSE transport of 2024-11-05, with two endpoints, is
// not served.
//
// # What is decided before the SDK
//
// Every message is read once, strictly, before the SDK has it: see parse. What
// two readers could read differently is refused there, and so is what this
// server does not serve: it has tools, and no prompts, resources, completion
// or logging. HTTP headers that repeat what the body says must agree with it,
// in every version. The SDK's own line transport ends the connection at the
// first line that it cannot read; lineConn answers it (-32700) and goes on.
//
// # Errors
//
// An unknown tool, and what is no call at all, is a JSON-RPC error. Everything
// else that goes wrong with a call, bad arguments too, is a result with
// isError and a text, "KIND: MESSAGE", so that the model can correct itself.
// Of a denial and of a fault of ours the planner learns a constant; the call's
// id is in the result's _meta, as casemate/call.
//
// # Sessions
//
// A session of Casemate is never one of MCP, for which some frameworks make a
// new one for each call. It is named by the Casemate-Session header or by
// casemate/session in the _meta of a call; package gateway has the rules.
// Without a name a client process on stdio has one session, and over HTTP
// each call has its own: state of a tool with scope session is then lost.
//
// # Ends
//
// A call ends when its client cancels it (notifications/cancelled), hangs up
// (HTTP, in every version, although the older ones let a call outlive its
// connection: a tool that nobody waits for must not run), or closes standard
// input. Progress is told only to who gave a token: seconds, every five.
//
// # Limits
//
// A line is at most 16 MiB, a body 8 MiB; 1,024 requests of a stdio client may
// be without an answer, 64 messages may make a batch (up to 2025-03-26); 1,024
// MCP sessions over HTTP, each ended after ten minutes without a request.
// Streams cannot be resumed. A Client takes at most 32 MiB for one message.
package mcp
