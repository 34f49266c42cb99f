package mapping

import (
	"bytes"
	"encoding/json"
)

// failures reads a function's response as a partial batch response to messages. What it says nothing of has succeeded;
// all is true when the batch has failed as a whole, which AWS takes a response for that cannot be understood: no JSON, an
// identifier that is empty, null, of another name or not of this batch.
func failures(response []byte, messages []message) (failed map[string]bool, all bool) {
	response = bytes.TrimSpace(response)
	if len(response) == 0 || string(response) == "null" {
		return nil, false
	}
	list, ok := member(response, "batchItemFailures")
	if !ok {
		return nil, true
	}
	if list == nil || string(list) == "null" {
		return nil, false
	}
	var items []json.RawMessage
	if json.Unmarshal(list, &items) != nil {
		return nil, true
	}
	known := make(map[string]bool, len(messages))
	for i := range messages {
		known[messages[i].id] = true
	}
	failed = make(map[string]bool, len(items))
	for _, item := range items {
		raw, ok := member(item, "itemIdentifier")
		var id string
		if !ok || raw == nil || json.Unmarshal(raw, &id) != nil || !known[id] {
			return nil, true
		}
		failed[id] = true
	}
	return failed, false
}

// member gives the member of an object with exactly that name, nil where it has none. ok is false for what is no object.
func member(object []byte, name string) (value json.RawMessage, ok bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal(object, &members) != nil || members == nil {
		return nil, false
	}
	return members[name], true
}

// split parts messages into those that are dealt with and those that failed.
func split(messages []message, failed map[string]bool) (done, again []message) {
	for i := range messages {
		if failed[messages[i].id] {
			again = append(again, messages[i])
		} else {
			done = append(done, messages[i])
		}
	}
	return done, again
}
