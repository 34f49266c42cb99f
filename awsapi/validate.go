package awsapi

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"thaw"
)

// maxViolations is how many failures AWS lists in one answer.
const maxViolations = 10

// validate checks an input against every constraint of the model, members in the model's order, and words what it finds
// as AWS does: "2 validation errors detected: Value '…' at 'functionName' failed to satisfy constraint: …; Value …".
// What AWS answers in another way than its model says is asked of exceptions first.
func validate(service, operation string, n *node, in reflect.Value, nulls map[string]bool) error {
	switch {
	case service == "sqs":
		return missing(n, in)
	case service == "monitoring" && plainOperations[operation]:
		return parameters(n, in, nulls)
	}
	if err := exceptional(service, operation, n, in); err != nil {
		return err
	}
	v := validator{operation: service + "." + operation, nulls: nulls}
	v.structure(n, in, "")
	switch len(v.found) {
	case 0:
		return nil
	case 1:
		return thaw.Errorf(violation(service), "1 validation error detected: %s", v.found[0])
	default:
		return thaw.Errorf(violation(service), "%d validation errors detected: %s", len(v.found), strings.Join(v.found, "; "))
	}
}

type validator struct {
	operation string
	nulls     map[string]bool // paths of elements that were null
	found     []string
}

func (v *validator) add(shown, path, constraint string) {
	if len(v.found) < maxViolations {
		v.found = append(v.found, "Value"+shown+" at '"+path+"' failed to satisfy constraint: "+constraint)
	}
}

// structure checks the members. A member that the SDK holds without pointer cannot show that it is absent; its zero
// value counts as absent.
func (v *validator) structure(n *node, value reflect.Value, path string) {
	for i := range n.fields {
		f := &n.fields[i]
		raw := value.Field(f.index)
		here := memberPath(path, f.Name)
		member, ok := held(raw)
		switch {
		case !ok && f.Required:
			v.add(" null", here, "Member must not be null")
		case !ok, raw.Kind() != reflect.Pointer && raw.IsZero():
		case waived[v.operation+"."+f.Name]:
		default:
			v.value(f.node, member, here)
		}
	}
}

func (v *validator) value(n *node, value reflect.Value, path string) {
	for _, c := range n.shape.broken(n, value) {
		v.add(shown(n, value), path, c)
	}
	switch n.kind {
	case kindStructure:
		v.structure(n, value, path)
	case kindList:
		v.list(n, value, path)
	case kindMap:
		v.mapping(n, value, path)
	case kindUnion:
		for f, member := range n.members(value) {
			v.value(f.node, member, memberPath(path, f.Name))
		}
	}
}

// list checks the elements. AWS names a failed structure by its index, but a failed simple element by the list and all
// that is asked of an element.
func (v *validator) list(n *node, value reflect.Value, path string) {
	failed := false
	for i := range value.Len() {
		element := value.Index(i)
		here := listPath(path, i+1)
		switch {
		case v.nulls[here]:
			failed = true
		case n.elem.composite():
			v.value(n.elem, element, here)
		default:
			failed = failed || len(n.elem.shape.broken(n.elem, element)) > 0
		}
	}
	if failed {
		v.add(shown(n, value), path, "Member must satisfy constraint: ["+n.elem.shape.all()+"]")
	}
}

func (v *validator) mapping(n *node, value reflect.Value, path string) {
	badKey, badValue := false, false
	for _, key := range sortedKeys(value) {
		badKey = badKey || len(n.key.shape.broken(n.key, key)) > 0
		element := value.MapIndex(key)
		here := mapPath(path, key.String())
		switch {
		case v.nulls[here]:
			badValue = true
		case n.elem.composite():
			v.value(n.elem, element, here)
		default:
			badValue = badValue || len(n.elem.shape.broken(n.elem, element)) > 0
		}
	}
	if badValue {
		v.add(shown(n, value), path, "Map value must satisfy constraint: ["+n.elem.shape.all()+"]")
	}
	if badKey {
		v.add(shown(n, value), path, "Map keys must satisfy constraint: ["+n.key.shape.all()+"]")
	}
}

func (n *node) composite() bool {
	return n.kind == kindStructure || n.kind == kindUnion || n.kind == kindList || n.kind == kindMap
}

// broken lists the constraints that a value fails, in AWS's words.
func (s *shape) broken(n *node, value reflect.Value) []string {
	var out []string
	if s.Pattern != "" && !s.compiled().match(value.String()) {
		out = append(out, s.patternText())
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, value.String()) {
		out = append(out, s.enumText())
	}
	if s.Max == nil && s.Min == nil {
		return out
	}
	size := n.size(value)
	if s.Max != nil && size > *s.Max {
		out = append(out, s.maxText())
	}
	if s.Min != nil && size < *s.Min {
		out = append(out, s.minText())
	}
	return out
}

// all lists everything that is asked of an element of a list or map, as AWS does when one of them fails.
func (s *shape) all() string {
	var out []string
	if s.Max != nil {
		out = append(out, s.maxText())
	}
	if s.Min != nil {
		out = append(out, s.minText())
	}
	if s.Pattern != "" {
		out = append(out, s.patternText())
	}
	if len(s.Enum) > 0 {
		out = append(out, s.enumText())
	}
	return strings.Join(append(out, "Member must not be null"), ", ")
}

func (s *shape) patternText() string {
	return "Member must satisfy regular expression pattern: " + s.Pattern
}

func (s *shape) enumText() string {
	return "Member must satisfy enum value set: [" + strings.Join(s.Enum, ", ") + "]"
}

func (s *shape) maxText() string {
	return "Member must have " + s.measure() + " less than or equal to " + s.number(*s.Max)
}

func (s *shape) minText() string {
	return "Member must have " + s.measure() + " greater than or equal to " + s.number(*s.Min)
}

// measure is what Min and Max bound.
func (s *shape) measure() string {
	switch s.Type {
	case "integer", "long", "double":
		return "value"
	}
	return "length"
}

func (n *node) size(value reflect.Value) float64 {
	switch n.kind {
	case kindInteger, kindLong:
		return float64(value.Int())
	case kindDouble:
		return value.Float()
	case kindString:
		return float64(utf8.RuneCountInString(value.String()))
	case kindBlob, kindList, kindMap:
		return float64(value.Len())
	}
	return 0
}

// number writes a double as Java does, with a fraction in any case: 2.0.
func (s *shape) number(f float64) string {
	text := strconv.FormatFloat(f, 'f', -1, 64)
	if s.Type == "double" && !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// shown is a value as AWS prints it, with the blank before it; nothing when it or a part of it is sensitive.
func shown(n *node, value reflect.Value) string {
	if n.secret() {
		return ""
	}
	return " '" + plain(n, value) + "'"
}

func plain(n *node, value reflect.Value) string {
	switch n.kind {
	case kindList:
		parts := make([]string, value.Len())
		for i := range parts {
			parts[i] = plain(n.elem, value.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case kindMap:
		var parts []string
		for _, key := range sortedKeys(value) {
			parts = append(parts, key.String()+"="+plain(n.elem, value.MapIndex(key)))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case kindBlob:
		return fmt.Sprintf("java.nio.HeapByteBuffer[pos=0 lim=%d cap=%[1]d]", value.Len())
	case kindDouble:
		return n.shape.number(value.Float())
	default:
		return fmt.Sprint(value.Interface())
	}
}

// secret reports whether a value must not be repeated to the caller, and so not to the caller's logs. Structures are
// printed nowhere but in lists and maps, where their members might be sensitive.
func (n *node) secret() bool {
	if n.shape.Sensitive || n.kind == kindStructure || n.kind == kindUnion {
		return true
	}
	return n.key != nil && n.key.secret() || n.elem != nil && n.elem.secret()
}

// memberPath, listPath and mapPath name a place in an input as AWS does: environment.variables, tags.1.member.key.
func memberPath(path, member string) string {
	c := member[0]
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	if path != "" {
		path += "."
	}
	return path + string(c) + member[1:]
}

func listPath(path string, index int) string { return path + "." + strconv.Itoa(index) + ".member" }

func mapPath(path, key string) string { return path + "." + key + ".member" }

// violation is the code for what breaks a constraint. CloudWatch Logs has its own, with the texts of the others.
func violation(service string) thaw.ErrorCode {
	if service == "logs" {
		return thaw.CodeInvalidParameter
	}
	return thaw.CodeValidation
}
