package module

import "encoding/json"

// Schema returns a JSON Schema of the command's arguments, with the hints, for
// clients that asked for it (the extension wire.ExtSchema).
func (c *Command) Schema() string {
	type property struct {
		Type        string  `json:"type"`
		Description string  `json:"description,omitempty"`
		Minimum     *uint64 `json:"minimum,omitempty"`
		Maximum     *uint64 `json:"maximum,omitempty"`
		MinLength   int     `json:"minLength,omitempty"`
	}
	type choice struct {
		Required []string `json:"required"`
	}
	schema := struct {
		Type       string              `json:"type"`
		Properties map[string]property `json:"properties"`
		Required   []string            `json:"required,omitempty"`
		AnyOf      []choice            `json:"anyOf,omitempty"`
		Additional bool                `json:"additionalProperties"`
		Input      string              `json:"x-input,omitempty"`
		Hints      map[string]bool     `json:"x-hints"`
	}{
		Type:       "object",
		Properties: make(map[string]property, len(c.Args)),
		Hints: map[string]bool{
			"readOnly": c.Hints.ReadOnly, "destructive": c.Hints.Destructive,
			"idempotent": c.Hints.Idempotent, "confirm": c.Hints.Confirm,
		},
	}
	switch c.Input {
	case AnyInput:
		schema.Input = "any"
	case SessionInput:
		schema.Input = "session_id"
	case GenFileInput:
		schema.Input = "gen_file"
	}
	for _, a := range c.Args {
		p := property{Description: a.Doc}
		switch a.Kind {
		case String:
			p.Type = "string"
			if a.Required && !a.MayBeEmpty {
				p.MinLength = 1
			}
		case Int:
			p.Type = "integer"
			lowest, highest := a.Min, a.maximum()
			p.Minimum, p.Maximum = &lowest, &highest
		case Bool, Flag:
			p.Type = "boolean"
		}
		schema.Properties[a.Name] = p
		switch {
		case c.OneOf:
			schema.AnyOf = append(schema.AnyOf, choice{Required: []string{a.Name}})
		case a.Required:
			schema.Required = append(schema.Required, a.Name)
		}
	}
	text, err := json.Marshal(schema)
	if err != nil { // only texts, numbers and booleans: cannot happen
		panic("module: schema of " + c.Name + ": " + err.Error())
	}
	return string(text)
}
