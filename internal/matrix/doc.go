// Package matrix holds no code but tests: unmodified MCP servers and clients
// that others wrote, each run through Casemate, an ordinary call that must work
// and a dangerous one that must not.
//
// Without CASEMATE_MATRIX it runs the servers and clients that are marked for
// every test run; with CASEMATE_MATRIX=all every one (make matrix, which
// writes docs/compatibility.md). The servers are prepared from their registries
// by Casemate itself, the clients by testdata/clients.sh, both into .cache.
package matrix
