package main

import (
	"github.com/tetratelabs/wazero"

	"github.com/casemate/casemate/internal/plan"
)

type grants struct{}

func openGrants(ms []plan.Mount) (*grants, error) { return &grants{}, nil }

func (g *grants) any() bool { return false }

func (g *grants) config() wazero.FSConfig { return wazero.NewFSConfig() }
