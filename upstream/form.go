package upstream

import (
	"encoding/json"
	"strings"
	"unicode"
)

// checkForm refuses an elicitation that asks for something like a password,
// or by any other means than a form. It reads keys whatever their case, as
// some clients do, and refuses what has two readings.
func checkForm(params json.RawMessage) error {
	top, err := folded(params)
	if err != nil {
		return &refusal{invalidParams, "the params have no one reading"}
	}
	if mode := top["mode"]; mode != nil && string(mode) != `"form"` || top["url"] != nil {
		return &refusal{invalidParams, "only forms can be elicited"}
	}
	if message, _ := text(top["message"]); passwordLike(message) {
		return errSecret
	}
	if top["requestedschema"] == nil {
		return &refusal{invalidParams, "requestedSchema is missing"}
	}
	return checkSchema(top["requestedschema"], 0)
}

var errSecret = &refusal{invalidParams, "a form must not ask for a password, or anything like it"}

// checkSchema looks at every field of a form, at any depth.
func checkSchema(schema json.RawMessage, depth int) error {
	ms, err := folded(schema)
	if err != nil || depth > maxNesting {
		return &refusal{invalidParams, "requestedSchema has no one reading"}
	}
	for key, v := range ms {
		switch s, _ := text(v); {
		case (key == "title" || key == "description") && secretField(s), key == "format" && s == "password":
			return errSecret
		}
		inner := []json.RawMessage{v}
		switch v[0] {
		case '{':
			if key == "properties" {
				fields, err := members(v)
				if err != nil {
					return &refusal{invalidParams, "requestedSchema: properties has no one reading"}
				}
				inner = nil
				for _, f := range fields {
					if secretField(f.key) {
						return errSecret
					}
					inner = append(inner, f.value)
				}
			}
		case '[':
			if inner, err = elements(v, maxMembers); err != nil {
				return &refusal{invalidParams, "requestedSchema is too large"}
			}
		}
		for _, x := range inner {
			if x[0] != '{' {
				continue
			}
			if err := checkSchema(x, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// folded are the members of an object by their keys in lower case; two that
// become one have no one reading.
func folded(b json.RawMessage) (map[string]json.RawMessage, error) {
	ms, err := members(b)
	if err != nil {
		return nil, err
	}
	out := make(map[string]json.RawMessage, len(ms))
	for _, m := range ms {
		key := strings.ToLower(strings.ToUpper(m.key))
		if out[key] != nil {
			return nil, errTwice
		}
		out[key] = m.value
	}
	return out, nil
}

// passwordLike says whether a text asks for a password, however it is
// spelled: letters alone count.
func passwordLike(s string) bool {
	letters := strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, s)
	for _, w := range [...]string{"password", "passwd", "passphrase", "passcode", "passwort", "kennwort", "motdepasse", "contrasena", "contraseña", "apikey", "secretkey", "privatekey", "accesstoken", "recoverycode", "seedphrase"} {
		if strings.Contains(letters, w) {
			return true
		}
	}
	return false
}

// secretField says whether the words of a field say that a secret goes there.
func secretField(s string) bool {
	if passwordLike(s) {
		return true
	}
	for _, w := range words(s) {
		switch w {
		case "pwd", "pass", "pin", "otp", "totp", "secret", "secrets", "token", "tokens", "credential", "credentials", "cvv", "cvc", "ssn", "mnemonic":
			return true
		}
	}
	return false
}

// words are the words of a text, or of an identifier: userPIN, user_pin.
func words(s string) []string {
	var b strings.Builder
	lower := false
	for _, r := range s {
		if unicode.IsUpper(r) && lower || !unicode.IsLetter(r) {
			b.WriteByte(' ')
		}
		lower = unicode.IsLower(r)
		if unicode.IsLetter(r) {
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return strings.Fields(b.String())
}
