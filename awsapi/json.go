package awsapi

import (
	"errors"
	"net/http"
	"reflect"
	"strings"

	smithyjson "github.com/aws/smithy-go/encoding/json"

	"thaw"
)

// jsonContentType begins what the JSON protocol is sent and answered as; its version follows.
const jsonContentType = "application/x-amz-json-"

// findTarget finds the operation that the header X-Amz-Target names: "AnyScaleFrontendService.RegisterScalableTarget".
func findTarget(m *model, r *http.Request) (incoming, error) {
	target := r.Header.Get("X-Amz-Target")
	if target == "" {
		return incoming{}, thaw.Errorf(thaw.CodeUnknownOperation, "%s needs the header X-Amz-Target; the request %s %s has none.",
			serviceTitle(m.Service), r.Method, r.URL.EscapedPath())
	}
	name, ok := strings.CutPrefix(target, m.Target+".")
	op := m.Operations[name]
	if !ok || op == nil {
		return incoming{}, thaw.Errorf(thaw.CodeUnknownOperation, "%s has no operation %s.", serviceTitle(m.Service), target)
	}
	return incoming{op: op}, nil
}

// decodeTarget fills an input from the body, which holds all members; an empty body is an input without any.
func decodeTarget(w http.ResponseWriter, r *http.Request, h *handler, in reflect.Value) (nulls map[string]bool, err error) {
	text, err := readContent(w, r, h.limit)
	switch {
	case errors.Is(err, errTooLarge):
		return nil, tooLarge(h.op.name, r.ContentLength, h.limit)
	case err != nil:
		return nil, err
	case len(text) == 0:
		return nil, nil
	}
	return decodeJSON(text, h.input, in)
}

// writeTarget answers with an output as a JSON object, an empty one where the output has no members.
func (s *Service) writeTarget(w http.ResponseWriter, h *handler, id string, out reflect.Value) error {
	body := smithyjson.NewEncoder()
	encodeStructure(body.Value, h.output, out)
	w.Header().Set("X-Amzn-Requestid", id)
	writeBody(w, jsonContentType+s.model.JSON, h.op.Status, body.Bytes())
	return nil
}

// writeTargetError answers with an error.
func writeTargetError(w http.ResponseWriter, m *model, e *thaw.Error, form wireForm) {
	status, kind, key := errorForm(w, m, e, form)
	body := smithyjson.NewEncoder()
	object := body.Object()
	object.Key("__type").String(kind)
	object.Key(key).String(e.Message)
	object.Close()
	writeBody(w, jsonContentType+m.JSON, status, body.Bytes())
}

// errorForm is an error's status, its shape's name, and the member that holds its text; it sets the headers that tell of
// it. The same code may have another status and another key for its text than in Lambda: the service's own model decides
// where it has the code. A failure of the platform's own stays one of the server's: the model has 400 for it, which
// clients do not try again.
func errorForm(w http.ResponseWriter, m *model, e *thaw.Error, form wireForm) (status int, kind, key string) {
	status, kind, key = form.status, string(e.Code), form.key
	if own, ok := m.Errors[string(e.Code)]; ok {
		if own.Message != "" { // EventBridge's errors have no members
			key = own.Message
		}
		if status < http.StatusInternalServerError {
			status = own.Status
		}
	}
	if m.QueryCompatible {
		// Clients take this header's code for the error's, and its type for whose fault it is.
		code, fault := queryCode(m, e.Code), "Sender"
		if status >= http.StatusInternalServerError {
			fault = "Receiver"
		}
		w.Header().Set("X-Amzn-Query-Error", code+";"+fault)
		if _, ok := m.Errors[kind]; ok {
			kind = "com.amazonaws." + m.Smithy + "#" + kind
		} else {
			kind = "com.amazon.coral.service#" + kind
		}
	}
	w.Header().Set("X-Amzn-Errortype", string(e.Code))
	return status, kind, key
}
