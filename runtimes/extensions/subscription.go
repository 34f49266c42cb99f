package extensions

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The APIs by which an extension takes telemetry. One may use either, not both.
const (
	telemetryAPI = "Telemetry"
	logsAPI      = "Logs"
)

// reservedPort is the one that AWS keeps for itself.
const reservedPort = 9001

// Bounds of a subscription's buffer, with AWS's defaults first (developer guide, "Lambda Telemetry API reference" and
// "Lambda Logs API"). The minimum of maxItems and timeoutMs is what the guide says in words.
var (
	itemBounds    = bounds{10000, 1000, 10000}
	byteBounds    = bounds{256 << 10, 256 << 10, 1 << 20}
	timeoutBounds = bounds{1000, 25, 30000}
)

type bounds struct{ otherwise, least, most int }

// subscription is what an extension asks for, checked.
type subscription struct {
	api        string
	schema     string
	categories []string // of "platform", "function", "extension", each once
	port       int
	url        string // HTTP: where each batch goes; its host is a name for the port inside the sandbox
	method     string // HTTP
	tcp        bool
	items      int
	bytes      int
	timeout    time.Duration
}

var schemas = map[string][]string{
	telemetryAPI: {"2022-07-01", "2022-12-13", "2025-01-29"},
	logsAPI:      {"2020-08-15", "2021-03-18"},
}

// parseSubscription checks a Subscribe request. problems are what AWS joins into the message of a ValidationError.
func parseSubscription(api string, body []byte) (s subscription, problems []string) {
	var request struct {
		Schema      *string  `json:"schemaVersion"`
		Types       []string `json:"types"`
		Destination *struct {
			Protocol string `json:"protocol"`
			URI      string `json:"URI"`
			Port     *int   `json:"port"`
			Method   string `json:"method"`
			Encoding string `json:"encoding"`
		} `json:"destination"`
		Buffering struct {
			Items   *int `json:"maxItems"`
			Bytes   *int `json:"maxBytes"`
			Timeout *int `json:"timeoutMs"`
		} `json:"buffering"`
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return s, []string{"the body is not a subscription: " + err.Error()}
	}
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	s.api, s.schema = api, schemas[api][0]
	switch {
	case request.Schema != nil:
		if s.schema = *request.Schema; !slices.Contains(schemas[api], s.schema) {
			wrong("schemaVersion should be one of %s", strings.Join(schemas[api], ", "))
		}
	case api == telemetryAPI:
		wrong("schemaVersion is not provided")
	}
	if d := request.Destination; d == nil {
		wrong("destination is not provided")
	} else {
		s.destination(wrong, d.Protocol, d.URI, d.Port, d.Method)
		if d.Encoding != "" && d.Encoding != "JSON" {
			wrong("encoding should be JSON")
		}
	}
	if len(request.Types) == 0 {
		wrong("types should not be empty")
	}
	for _, kind := range request.Types {
		if kind != categoryPlatform && kind != categoryFunction && kind != categoryExtension {
			wrong("%.64q is not a type: platform, function and extension are", kind)
			break // one of them will do: there may be as many as the body has room for
		}
		if !slices.Contains(s.categories, kind) {
			s.categories = append(s.categories, kind)
		}
	}
	bounded := func(name string, given *int, b bounds) int {
		switch {
		case given == nil:
			return b.otherwise
		case *given < b.least || *given > b.most:
			wrong("%s should be between %d and %d", name, b.least, b.most)
		}
		return *given
	}
	s.items = bounded("maxItems", request.Buffering.Items, itemBounds)
	s.bytes = bounded("maxBytes", request.Buffering.Bytes, byteBounds)
	s.timeout = time.Duration(bounded("timeoutMs", request.Buffering.Timeout, timeoutBounds)) * time.Millisecond
	return s, problems
}

// destination checks where the telemetry shall go: a port inside the sandbox, whatever the name.
func (s *subscription) destination(wrong func(string, ...any), protocol, uri string, port *int, method string) {
	switch protocol {
	case "HTTP":
		u, err := url.Parse(uri)
		switch {
		case uri == "":
			wrong("URI is not provided")
			return
		case err != nil:
			wrong("URI cannot be parsed")
			return
		case u.Scheme != "http":
			wrong("URI scheme should be http")
		}
		if host := u.Hostname(); host != "sandbox.localdomain" && host != "sandbox" {
			wrong("URI host should be sandbox.localdomain")
		}
		if u.Port() == "" {
			wrong("URI port is not provided")
			return
		}
		if s.port, err = strconv.Atoi(u.Port()); err != nil {
			wrong("URI port is not a number")
			return
		}
		u.User, u.Fragment, u.RawFragment = nil, "", ""
		s.url = u.String()
		if s.method = http.MethodPost; method == http.MethodPut {
			s.method = method
		} else if method != "" && method != http.MethodPost {
			wrong("method should be POST or PUT")
		}
	case "TCP":
		s.tcp = true
		if port != nil {
			s.port = *port
			break
		}
		// The guide names a URI for both protocols, and the samples a port.
		u, err := url.Parse(uri)
		if err == nil && u.Port() != "" {
			s.port, err = strconv.Atoi(u.Port())
		}
		if err != nil || s.port == 0 {
			wrong("port is not provided")
			return
		}
	default:
		wrong("protocol should be HTTP or TCP")
		return
	}
	switch {
	case s.port == reservedPort:
		wrong("port %d is reserved", reservedPort)
	case s.port < 1 || s.port > 65535:
		wrong("port should be between 1 and 65535")
	}
}

// wants reports whether the subscription takes events of that category.
func (s *subscription) wants(category string) bool { return slices.Contains(s.categories, category) }
