package awsapi

import (
	"embed"
	"encoding/json"
	"fmt"
	"sync"
)

//go:generate python3 models/generate.py

//go:embed models/lambda.json models/iam.json models/sts.json models/application-autoscaling.json models/sqs.json models/events.json models/scheduler.json models/monitoring.json models/logs.json
var modelFiles embed.FS

// A model is one service's API as models/generate.py writes it. It is shared and never changed after loading, except for
// what a constraint keeps of itself once it has been compiled.
type model struct {
	Service   string `json:"service"`
	Smithy    string `json:"smithy"` // the service's name in its Smithy model; empty: Service
	Version   string `json:"version"`
	Protocol  string `json:"protocol"` // protocolREST, protocolQuery, protocolJSON or, with JSON beside it, protocolCBOR
	Namespace string `json:"namespace"`
	Target    string `json:"target"` // what X-Amz-Target begins with, before a dot; in CBOR, the service's name in the path
	JSON      string `json:"json"`   // version of the JSON protocol, "1.0" or "1.1"
	// QueryCompatible: the service speaks the query protocol too, and has its errors' codes from there.
	QueryCompatible bool                  `json:"queryCompatible"`
	Operations      map[string]*operation `json:"operations"`
	Shapes          map[string]*shape     `json:"shapes"`
	Errors          map[string]modelError `json:"errors"`
}

// The protocols that the models name.
const (
	protocolREST  = "rest-json"
	protocolQuery = "query"
	protocolJSON  = "json"
	protocolCBOR  = "cbor"
)

type operation struct {
	name   string
	Method string `json:"method"`
	URI    string `json:"uri"`
	Status int    `json:"status"`
	Full   bool   `json:"full"` // the shapes of Input and Output are in the model
	Input  string `json:"input"`
	Output string `json:"output"`
}

// A shape is a type of the model with its constraints. Min and Max bound a number's value, and the length of everything
// else: characters of a string, bytes of a blob, entries of a list or map.
type shape struct {
	Type        string    `json:"type"`
	Min         *float64  `json:"min"`
	Max         *float64  `json:"max"`
	Pattern     string    `json:"pattern"`
	Enum        []string  `json:"enum"`
	Sensitive   bool      `json:"sensitive"`
	EventStream bool      `json:"eventstream"`
	Union       bool      `json:"union"`     // exactly one member is set; the SDK has an interface for it
	Flattened   bool      `json:"flattened"` // in the query protocol, a list or map without an element around its entries
	Members     []member  `json:"members"`
	Member      reference `json:"member"`
	Key         reference `json:"key"`
	Value       reference `json:"value"`

	compiled func() pattern
}

type member struct {
	Name     string   `json:"name"`
	Shape    string   `json:"shape"`
	In       location `json:"in"`
	Wire     string   `json:"wire"`  // empty: Name
	Query    string   `json:"query"` // the name in the query protocol; empty: Wire
	Required bool     `json:"required"`
}

type reference struct {
	Shape string `json:"shape"`
	Wire  string `json:"wire"`
}

type modelError struct {
	Status  int    `json:"status"`
	Message string `json:"message"` // the name of the member that holds the text
	Code    string `json:"code"`    // empty: the shape's name
}

// location is where on the wire a member travels.
type location string

const (
	inBody    location = ""
	inURI     location = "uri"
	inQuery   location = "query"
	inHeader  location = "header"
	inHeaders location = "headers" // a map, its keys behind a common prefix
	inStatus  location = "status"
	inPayload location = "payload" // the member is the whole body
)

var models = map[string]func() (*model, error){
	"lambda": sync.OnceValues(func() (*model, error) { return loadModel("lambda") }),
	"iam":    sync.OnceValues(func() (*model, error) { return loadModel("iam") }),
	"sts":    sync.OnceValues(func() (*model, error) { return loadModel("sts") }),
	"sqs":    sync.OnceValues(func() (*model, error) { return loadModel("sqs") }),
	"events": sync.OnceValues(func() (*model, error) { return loadModel("events") }),
	"logs":   sync.OnceValues(func() (*model, error) { return loadModel("logs") }),

	"scheduler":  sync.OnceValues(func() (*model, error) { return loadModel("scheduler") }),
	"monitoring": sync.OnceValues(func() (*model, error) { return loadModel("monitoring") }),

	"application-autoscaling": sync.OnceValues(func() (*model, error) { return loadModel("application-autoscaling") }),
}

func loadModel(service string) (*model, error) {
	text, err := modelFiles.ReadFile("models/" + service + ".json")
	if err != nil {
		return nil, fmt.Errorf("model of %s: %w", service, err)
	}
	m := new(model)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("model of %s: %w", service, err)
	}
	if m.Smithy == "" {
		m.Smithy = service
	}
	for name, op := range m.Operations {
		op.name = name
	}
	if service == "lambda" {
		for name, bound := range documentedMax {
			m.Shapes[name].Max = &bound
		}
	}
	for name, s := range m.Shapes {
		s.compiled = sync.OnceValue(func() pattern { return compilePattern(s.Pattern) })
		s.nameEntries()
		for i := range s.Members {
			if s.Members[i].Wire == "" {
				s.Members[i].Wire = s.Members[i].Name
			}
			if s.Members[i].Query == "" {
				s.Members[i].Query = s.Members[i].Wire
			}
			if m.Shapes[s.Members[i].Shape] == nil {
				return nil, fmt.Errorf("model of %s: %s.%s has the unknown shape %s", service, name, s.Members[i].Name, s.Members[i].Shape)
			}
		}
	}
	return m, nil
}

// nameEntries gives a map's keys and values the names that the query protocol has for them where the model has none.
func (s *shape) nameEntries() {
	if s.Key.Wire == "" {
		s.Key.Wire = "key"
	}
	if s.Value.Wire == "" {
		s.Value.Wire = "value"
	}
}
