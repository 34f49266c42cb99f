package awsapi

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"thaw"
)

// plainOperations are those of CloudWatch that word broken constraints in their own way, as recorded: "The parameter
// MetricData.member.1.Unit must be a value in the set [ Seconds, … ].". Its other operations answer as other services do.
var plainOperations = map[string]bool{"GetMetricStatistics": true, "ListMetrics": true, "PutMetricData": true}

// parameters checks an input of those operations. What is missing comes before what is wrong; all of a kind is told, one
// on a line. An empty text counts as missing.
func parameters(n *node, in reflect.Value, nulls map[string]bool) error {
	var c parameterCheck
	for _, path := range slices.Sorted(maps.Keys(nulls)) {
		c.add("The value at '%s' must not be null.", path)
	}
	c.structure(n, in, "")
	switch {
	case len(c.missing) > 0:
		return thaw.Errorf(thaw.CodeMissingParameter, "%s", strings.Join(c.missing, "\n"))
	case len(c.wrong) > 0:
		return thaw.Errorf(thaw.CodeInvalidParameterValue, "%s", strings.Join(c.wrong, "\n"))
	}
	return nil
}

type parameterCheck struct {
	missing, wrong []string
}

func (c *parameterCheck) add(format string, args ...any) {
	if len(c.wrong) < maxViolations {
		c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
	}
}

func (c *parameterCheck) structure(n *node, v reflect.Value, path string) {
	for i := range n.fields {
		f := &n.fields[i]
		name := strings.TrimPrefix(path+"."+f.Name, ".")
		member, ok := held(v.Field(f.index))
		switch {
		case ok && (f.node.kind != kindString || member.Len() > 0):
			c.value(f.node, member, name)
		case f.Required && len(c.missing) < maxViolations:
			c.missing = append(c.missing, "The parameter "+name+" is required.")
		}
	}
}

func (c *parameterCheck) value(n *node, v reflect.Value, name string) {
	s := n.shape
	switch n.kind {
	case kindStructure:
		c.structure(n, v, name)
	case kindList:
		if s.Max != nil && float64(v.Len()) > *s.Max {
			c.add("The collection %s must not have a size greater than %s.", name, s.number(*s.Max))
			return
		}
		for i := range v.Len() {
			c.value(n.elem, v.Index(i), name+".member."+strconv.Itoa(i+1))
		}
	case kindString:
		switch {
		case len(s.Enum) > 0 && !slices.Contains(s.Enum, v.String()):
			c.add("The parameter %s must be a value in the set [ %s ].", name, strings.Join(s.Enum, ", "))
		case s.Max != nil && n.size(v) > *s.Max:
			c.add("The parameter %s must be shorter than %s characters.", name, s.number(*s.Max+1))
		case s.Pattern != "" && !s.compiled().match(v.String()):
			c.add("The value %s for parameter %s is not matching the expected pattern %s.", v.String(), name, s.Pattern)
		}
	case kindInteger, kindLong:
		if s.Min != nil && n.size(v) < *s.Min {
			c.add("The parameter %s must be greater than or equal to %s.", name, s.number(*s.Min))
		}
	}
}
