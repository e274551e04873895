// Package wrap puts Casemate between an MCP client and its servers: it edits
// the client's own configuration, so that the client starts
//
//	casemate run --name NAME -- PROGRAM ARGUMENT…
//
// where it started PROGRAM ARGUMENT… before, and proposes for each server what
// it may touch, as text for the user's casemate.yaml.
//
// The package starts nothing, and knows no catalog and no router. It reads
// text, plans, and replaces files:
//
//   - [Read] finds the servers in a client's file, by keys and shape. JSON (with
//     comments and trailing commas), TOML and YAML have readers here that know
//     where each value stands ([Document]); what they do not know they refuse.
//   - [User.Wrap] and [User.Undo] plan the change of one file and of the
//     manifest. Every edit is checked before it is kept: the new text, read
//     again, must say the same as the old, casemate aside.
//   - [Plan.Grant] writes the manifest; [Plan.Apply] keeps a copy of the file
//     and then replaces it, whole or not at all, by an exchange of names that is
//     taken back if the client wrote it in the meantime.
//
// A name gives authority to one command: whoever applies a plan records the
// commands in Plan.Recorded before the client's file changes.
//
// What is proposed is never wide by itself. A path that an argument names and
// that exists is granted at the same path, to read; to write only where
// servers.yaml says that the server is there for that. The root, /etc, the home
// folder, keys, and the settings of clouds and agents are left out, with a note
// (never.go). No network is granted. A person may grant what wrap does not.
//
// Limits: a file of a client has at most 64 MiB, a depth of 200 and four
// million values. Whatever a client puts into arguments when it starts a server
// is not known here, but for the home folder and that of the project: the first
// start of such a server is refused until it is approved. Files named without a
// slash, or in the middle of an argument (a:b, a,b), are not seen. Redaction of
// what people see is a net. A client that reads its file between the exchange
// and its taking back may see the wrapped one for that moment.
package wrap
