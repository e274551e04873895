// Package casemate is the vocabulary of Casemate, the tool-isolation runtime
// for AI agents: every type and interface that its packages share, in the
// order in which a call meets them. It imports the standard library only.
//
// One call walks one way:
//
//	planner → gateway → router → pool → Backend → Sandbox → guest
//
// The planner is assumed hijacked and the guest hostile. A guest has exactly
// the authority of its tool's Profile, narrowed by the Grant of the call;
// what a host cannot enforce is refused, and Enforced says what was on.
package casemate
