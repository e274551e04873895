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
// two readers could read differently is refused there, and so is what nobody
// here serves. HTTP headers that repeat what the body says must agree with it,
// in every version. The SDK's own line transport ends the connection at the
// first line that it cannot read; lineConn answers it (-32700) and goes on.
//
// # MCP servers behind the router
//
// What a server offers passes as the server wrote it: the SDK's types would
// lose what they do not know, so that results, errors and notifications are
// handed on as text, and only members that must be others are exchanged. Those
// are the prefix of the names of tools and prompts, _meta (keys that begin with
// casemate/ are ours alone), the progress token, the subscription's id, and, in
// 2026-07-28, resultType, ttlMs and cacheScope where the server gives none.
//
// Tools are listed as they were approved. Capabilities and instructions are
// those of the approved servers together; of several the instructions stand
// under headings. A method that no server has the capability for is not found.
// Experimental capabilities and extensions are not handed on, because what they
// promise may be methods that nobody here knows.
//
// Of a lone server, and in a gateway.ServerView, lists and cursors are the
// server's own. Of several, a list is read server by server, a page of one for
// a page; one that fails is left out and named in _meta, as casemate/missing.
// A prompt is found by its prefix. A resource keeps its URI, and belongs to the
// server that lists it, or a template that fits it; where two do it is refused,
// because one may have taken it from the other.
//
// What a server asks of the client (roots, sampling, elicitation) is asked in
// the stream of the request that it serves, and, outside of one, of the client
// of a session that begins with initialize. From 2026-07-28 on a client is sent
// no requests: the call is parked for five minutes and answered with
// input_required, and goes on when its client sends the request again with the
// answers. What may be asked at all the router decides; a result that asks for
// input by itself is an error. A server tells a client of changes through the
// session, or, from 2026-07-28 on, through subscriptions/listen; of a request's
// progress and logging in its stream. Where a server tells of progress itself,
// ours ends.
//
// # Long results
//
// The result of more than 1 MiB of a server's tool is sent while the server
// writes it, on standard output and over HTTP. In a batch it is held whole,
// because the answers to a batch are one array, in order; and so is what a tool
// of another kind prints, for it is cut, mended and put behind a heading when it
// is whole: the HTTP API streams that. A result that comes while its client is
// asked something (input_required) fails: that request has its answer.
// Its _meta, isError and resultType come last. What goes wrong
// in the middle (the server dies, or what it writes turns out to be no JSON, the
// output limit, the time, a record that cannot be kept) cannot take back what was
// sent: what is open is closed, so that the client has one whole message, whose
// content ends with why, or whose _meta says so (casemate/notes) where content
// stands in the middle, and which says isError. Other messages to that client,
// over HTTP in that answer, wait until then; over HTTP those are then lost. A
// client over HTTP that takes nothing for 30 s has hung up: its connection is cut,
// as is one whose request ends before its answer does, which no client can take
// for the end of it.
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
// Without a name a client process on stdio has one session (Options.Session
// may give it), and over HTTP each call has its own: state of a tool with scope
// session is then lost. MCP servers are the exception, for they are slow to
// start, and remember subscriptions: over HTTP all requests of one caller, in
// one context, that name no session share one, which ends after an idle hour.
// There are two of it, for clients before 2026-07-28 and after. A client that
// wants its conversations apart names its sessions.
//
// Over HTTP a caller sees what its credential lists, narrowed to the context
// that /mcp?context=NAME names; a session of MCP is that of its caller and
// context alone.
//
// # Limits of one call
//
// casemate/limits in the _meta of a call takes from it some of what its tool has,
// as in {"memory": "64MiB", "timeout": "2s", "without": ["/docs"]}; more than the
// tool has is refused. A server is not told. See casemate.Limits.
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
// MCP sessions over HTTP, 768 of one caller, each ended after ten minutes
// without a request; 256 parked calls of one caller; 256 notifications that
// wait for a client that does not read, then more are lost; 65,536 URIs whose
// server is remembered, 4 MiB of them of one server. Streams cannot be resumed.
// A Client takes at most 32 MiB for one message.
package mcp
