package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
)

// newSession begins a session of the name that the body gives, or of one that
// is made; where there is one of that name already it answers 200 and not 201.
func (a *API) newSession(w http.ResponseWriter, r *http.Request) {
	name := ""
	if r.ContentLength != 0 {
		if err := object(r, `send {}, or {"name": NAME}`, map[string]func(json.RawMessage) bool{"name": word(&name, 1024)}); err != nil {
			fail(w, err)
			return
		}
	}
	s, created, err := a.sessions.New(gateway.CallerOf(r.Context()), name)
	if err != nil {
		fail(w, err)
		return
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
		w.Header().Set("Location", "/v1/sessions/"+url.PathEscape(s.Name))
	}
	write(w, status, s)
}

func (a *API) listSessions(w http.ResponseWriter, r *http.Request) {
	write(w, http.StatusOK, struct {
		Sessions []gateway.Session `json:"sessions"`
	}{a.sessions.List(gateway.CallerOf(r.Context()))})
}

func (a *API) getSession(w http.ResponseWriter, r *http.Request) {
	s, err := a.sessions.Get(gateway.CallerOf(r.Context()), r.PathValue("id"))
	if err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, s)
}

// endSession ends a session, and answers when nothing of it is left.
func (a *API) endSession(w http.ResponseWriter, r *http.Request) {
	if !a.sessions.End(gateway.CallerOf(r.Context()), r.PathValue("id")) {
		fail(w, &casemate.Error{Op: "session", Kind: casemate.Gone, Err: errors.New("there is no such session of yours")})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
