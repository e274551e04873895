package api

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
)

type function struct {
	Name        casemate.ToolName `json:"name"`
	Description string            `json:"description,omitempty"`
	Parameters  json.RawMessage   `json:"parameters"`
	Strict      bool              `json:"strict"`
}

// tools lists those that the caller may call in its context. A name that the
// OpenAI API would refuse, with the whole list, is left out; no manifest makes
// one.
func (a *API) tools(w http.ResponseWriter, r *http.Request) {
	type item struct {
		Type     string   `json:"type"`
		Function function `json:"function"`
	}
	list := struct {
		Object string `json:"object"`
		Data   []item `json:"data"`
	}{"list", []item{}}
	c := gateway.CredentialOf(r.Context())
	for _, t := range a.router.Tools() {
		if c.May(t.Name) && functionName(string(t.Name)) {
			list.Data = append(list.Data, item{"function", function{t.Name, t.Description, t.Parameters, Strict(t.Parameters)}})
		}
	}
	write(w, http.StatusOK, list)
}

func functionName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == ""
}
