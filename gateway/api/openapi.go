package api

import (
	_ "embed"
	"net/http"
)

//go:embed openapi.json
var document []byte

// describe answers with what describes this API.
func describe(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(document) // an error means that the client is gone
}
