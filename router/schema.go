package router

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// The bounds of a schema and of one validation. A schema may come from a
// hostile server, and arguments from a hijacked planner.
const (
	maxSchema      = 256 << 10      // bytes
	maxValidation  = time.Second    //
	maxPatternWork = int64(1) << 28 // bytes of a string times instructions of a pattern
	schemaBase     = "mem:///"      // of the references within a schema
	schemaURL      = schemaBase + "schema"
)

// A schema checks arguments. The validator that it uses cannot be
// interrupted, so that a gauge is built into every subschema, which ends a
// validation that takes too long; see arm.
type schema struct {
	declared map[string]string // folded: the property

	mu       sync.Mutex // one validation at a time: they share the gauge
	compiled *jsonschema.Schema
	gauge    *gauge
}

// A gauge ends a validation by a panic, which validate recovers.
type gauge struct {
	steps int
	end   time.Time
}

type tooLong string

func (g *gauge) spend() {
	if g.steps++; g.steps%64 == 0 && time.Now().After(g.end) {
		panic(tooLong("takes longer to check than " + maxValidation.String()))
	}
}

// outside is the loader: no reference leaves the document.
type outside struct{}

func (outside) Load(url string) (any, error) {
	return nil, errors.New("a reference leads out of the schema")
}

// compile compiles the JSON Schema of a tool's parameters.
func compile(src []byte) (s *schema, err error) {
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, errors.New("the schema cannot be compiled")
		}
	}()
	if len(src) > maxSchema {
		return nil, fmt.Errorf("is longer than %d KiB", maxSchema>>10)
	}
	doc, _, err := decode(src, false)
	if err != nil {
		return nil, err
	}
	root, ok := doc.(map[string]any)
	if !ok {
		return nil, errors.New("is not a JSON object")
	}
	s = &schema{declared: map[string]string{}, gauge: &gauge{end: time.Now().Add(maxValidation)}}
	if ps, ok := root["properties"].(map[string]any); ok {
		for k := range ps {
			s.declared[foldKey(k)] = k
		}
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(outside{})
	c.AssertFormat()
	c.UseRegexpEngine(s.gauge.pattern)
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, schemaError(err)
	}
	if s.compiled, err = c.Compile(schemaURL); err != nil {
		return nil, schemaError(err)
	}
	return s, s.gauge.arm(reflect.ValueOf(s.compiled), map[*jsonschema.Schema]bool{})
}

// schemaError keeps what a reader can use, without the address that we gave
// the document.
func schemaError(err error) error {
	return errors.New(cut(strings.NewReplacer(schemaURL, "", schemaBase, "").Replace(err.Error()), 500))
}

// pattern compiles a regular expression (RE2: linear in the text) that bounds
// its own work.
func (g *gauge) pattern(expr string) (jsonschema.Regexp, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, err
	}
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, err
	}
	return &pattern{re, int64(len(prog.Inst)), g}, nil
}

type pattern struct {
	re   *regexp.Regexp
	cost int64
	g    *gauge
}

func (p *pattern) String() string { return p.re.String() }

func (p *pattern) MatchString(s string) bool {
	if int64(len(s))*p.cost > maxPatternWork {
		panic(tooLong("is too long for the pattern of its schema"))
	}
	if len(s) > 4<<10 {
		p.g.steps |= 63 // look at the clock
	}
	p.g.spend()
	return p.re.MatchString(s)
}

// arm walks every schema that is reached from v and puts the gauge into its
// format, which the validator asks before it goes deeper. References that are
// resolved only while validating would not be armed; they are refused.
func (g *gauge) arm(v reflect.Value, seen map[*jsonschema.Schema]bool) error {
	switch v.Kind() {
	case reflect.Interface:
		return g.arm(v.Elem(), seen)
	case reflect.Slice:
		for i := range v.Len() {
			if err := g.arm(v.Index(i), seen); err != nil {
				return err
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if err := g.arm(it.Value(), seen); err != nil {
				return err
			}
		}
	case reflect.Pointer:
		s, ok := v.Interface().(*jsonschema.Schema)
		if !ok || s == nil || seen[s] {
			return nil
		}
		seen[s] = true
		if s.DynamicRef != nil || s.RecursiveRef != nil {
			return errors.New("$dynamicRef and $recursiveRef are not supported in parameters")
		}
		ask := &jsonschema.Format{Name: "gauge", Validate: func(any) error { g.spend(); return nil }}
		if f := s.Format; f != nil {
			ask.Name = f.Name
			ask.Validate = func(v any) error { g.spend(); return f.Validate(v) }
		}
		s.Format = ask
		for i := range v.Elem().NumField() {
			if f := v.Elem().Type().Field(i); f.IsExported() && f.Name != "Enum" && f.Name != "Const" && f.Name != "Default" && f.Name != "Examples" {
				if err := g.arm(v.Elem().Field(i), seen); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// validate checks decoded arguments. Its error names the place in them, and
// what stands there.
func (s *schema) validate(args map[string]any) (err error) {
	for k := range args {
		if want, ok := s.declared[foldKey(k)]; ok && want != k {
			if _, exact := s.compiled.Properties[k]; !exact {
				return fmt.Errorf("%s: not allowed; it differs only by case from %s", quote(k), quote(want))
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		switch p := recover().(type) {
		case nil:
		case tooLong:
			err = errors.New("an argument " + string(p))
		default:
			err = errors.New("the arguments cannot be checked")
		}
	}()
	s.gauge.steps, s.gauge.end = 0, time.Now().Add(maxValidation)
	err = s.compiled.Validate(args)
	if verr, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		return explain(verr)
	}
	return err
}

// explain shows the innermost failures, at most three.
func explain(e *jsonschema.ValidationError) error {
	var out []string
	var walk func(*jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		if len(out) >= 3 {
			return
		}
		if len(e.Causes) == 0 {
			for _, m := range leaf(e) {
				if !slices.Contains(out, m) {
					out = append(out, m)
				}
			}
		}
		for _, c := range e.Causes {
			walk(c)
		}
	}
	walk(e)
	return errors.New(strings.Join(out, "; "))
}

func leaf(e *jsonschema.ValidationError) []string {
	at := func(more ...string) string {
		p := pathOf(append(slices.Clone(e.InstanceLocation), more...))
		if p == "" {
			p = "arguments"
		}
		return p + ": "
	}
	each := func(names []string, what string) (out []string) {
		for _, n := range names[:min(3, len(names))] {
			out = append(out, at(n)+what)
		}
		return out
	}
	one := func(format string, a ...any) []string { return []string{at() + fmt.Sprintf(format, a...)} }
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		return each(k.Missing, "missing")
	case *kind.AdditionalProperties:
		slices.Sort(k.Properties)
		return each(k.Properties, "not allowed")
	case *kind.DependentRequired:
		return each(k.Missing, "missing, since "+quote(k.Prop)+" is there")
	case *kind.Type:
		return one("want %s, got %s", strings.Join(k.Want, " or "), k.Got)
	case *kind.Enum:
		var want []string
		for _, w := range k.Want[:min(10, len(k.Want))] {
			want = append(want, quote(fmt.Sprint(w)))
		}
		return one("want one of %s", strings.Join(want, ", "))
	case *kind.Const:
		return one("want %s", quote(fmt.Sprint(k.Want)))
	case *kind.Pattern:
		return one("does not match the pattern %s", quote(k.Want))
	case *kind.Format:
		return one("is not of the format %s", quote(k.Want))
	case *kind.FalseSchema:
		return one("not allowed")
	}
	// The library words the rest: "at '': …".
	text := (&jsonschema.ValidationError{ErrorKind: e.ErrorKind}).Error()
	return []string{at() + cut(strings.TrimPrefix(text, "at '': "), 200)}
}
