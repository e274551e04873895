// Package catalog is where tools come from: it reads casemate.yaml (or the
// same as JSON), says exactly what is wrong with it, and hands on tools whose
// every path is real and whose every limit is set.
//
// A configuration is code: it says what may be run and what may be touched.
// So there are three questions, asked in this order, and each fails closed.
//
//   - Where does it lie? [Find] says whether the operator named the file or
//     it was merely there; [Load] refuses one that others may write.
//   - Is it right? [Parse] knows one table of keys (keys.go), from which the
//     JSON Schema for editors is made too. Whatever the table does not name is
//     an error with its line and column.
//   - Is it trusted? [Trust] holds what the user has agreed to: the real path,
//     and a [Digest] over the text, the real path of every grant and the
//     content of every program in the configuration's folder that it runs.
//
// A casemate.lock beside the file pins each tool by digest ([Config.CheckLock]).
// Where the folder cannot be written, it lies in the folder of state.
//
// What the tools of an MCP server are, the server says, and it is a stranger:
// the file says what they may touch. The first listing is recorded in the lock
// ([Config.Approve]); from then on its tools are those, as they were. A name
// that two tools would have is nobody's, or the file's own.
//
// Limits: a file has at most 1 MiB, 100,000 nodes (aliases counted each time
// they are used), a depth of 32 and 1,000 tools; the schema of a tool's
// parameters has at most 64 KiB. At most 20 mistakes are reported at once. A
// server lists at most 1,000 tools of 256 KiB, 8 MiB in all; a lock has at most
// 32 MiB.
//
// What this version parses and checks but cannot enforce is never dropped: a
// tool that asks for it is in Config.Unsupported and not in Config.Tools.
package catalog
