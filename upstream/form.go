package upstream

import (
	"encoding/json"
	"strings"
	"unicode"
)

// checkForm refuses an elicitation that asks for something like a password,
// or by any other means than a form.
func checkForm(params json.RawMessage) error {
	if mode := field(params, "mode"); mode != nil && str(params, "mode") != "form" || field(params, "url") != nil {
		return &refusal{invalidParams, "only forms can be elicited"}
	}
	secret := &refusal{invalidParams, "a form must not ask for a password, or anything like it"}
	if passwordLike(str(params, "message")) {
		return secret
	}
	schema := field(params, "requestedSchema")
	if schema == nil {
		return &refusal{invalidParams, "requestedSchema is missing"}
	}
	ms, err := members(schema)
	if err != nil {
		return &refusal{invalidParams, "requestedSchema has no one reading"}
	}
	for _, m := range ms {
		if m.key != "properties" {
			continue
		}
		fields, err := members(m.value)
		if err != nil {
			return &refusal{invalidParams, "requestedSchema: properties has no one reading"}
		}
		for _, f := range fields {
			if secretField(f.key) || str(f.value, "format") == "password" || secretField(str(f.value, "title")) || secretField(str(f.value, "description")) {
				return secret
			}
		}
	}
	return nil
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
