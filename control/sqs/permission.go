package sqs

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"

	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"

	"thaw"
)

// maxActions is how many actions a statement can have, after the documentation of AddPermission.
const maxActions = 7

// actions are those that AddPermission can share, after the developer guide's list of permissions: what only a queue's
// owner may do is not among them.
var actions = []string{
	"*", "ChangeMessageVisibility", "DeleteMessage", "GetQueueAttributes", "GetQueueUrl", "ListDeadLetterSourceQueues",
	"PurgeQueue", "ReceiveMessage", "SendMessage",
}

var accountID = regexp.MustCompile(`^\d{12}$`)

// statement is one of a policy, as far as AddPermission writes it. Those of others are kept as they are.
type statement struct {
	Sid       string
	Effect    string
	Principal struct{ AWS any }
	Action    any
	Resource  string
}

// policy is the attribute Policy, in the form that AWS gives it.
type policy struct {
	Version   string
	ID        string            `json:"Id,omitempty"`
	Statement []json.RawMessage `json:"Statement"`
}

// addPermission adds a statement to the queue's policy. It is shown, and not enforced.
func (a *API) addPermission(ctx context.Context, in *sdk.AddPermissionInput) (*sdk.AddPermissionOutput, error) {
	q, err := a.at(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	added, err := a.statement(q.name, in)
	if err != nil {
		return nil, err
	}
	err = a.changePolicy(ctx, q, func(p *policy) error {
		if slices.ContainsFunc(p.Statement, labelled(*in.Label)) {
			return invalidValue(*in.Label, "Label", "Already exists.")
		}
		p.Statement = append(p.Statement, added)
		return nil
	})
	return &sdk.AddPermissionOutput{}, err
}

func (a *API) removePermission(ctx context.Context, in *sdk.RemovePermissionInput) (*sdk.RemovePermissionOutput, error) {
	q, err := a.at(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	err = a.changePolicy(ctx, q, func(p *policy) error {
		n := len(p.Statement)
		p.Statement = slices.DeleteFunc(p.Statement, labelled(*in.Label))
		if len(p.Statement) == n {
			return invalidValue(*in.Label, "Label", "can't find label.")
		}
		return nil
	})
	return &sdk.RemovePermissionOutput{}, err
}

// statement makes the statement that a request asks for.
func (a *API) statement(queue string, in *sdk.AddPermissionInput) (json.RawMessage, error) {
	if !labelPattern.MatchString(*in.Label) {
		return nil, invalidValue(*in.Label, "Label", "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
	}
	s := statement{Sid: *in.Label, Effect: "Allow", Resource: a.arn(queue)}
	var accounts, named []string
	for _, id := range in.AWSAccountIds {
		if !accountID.MatchString(id) {
			return nil, invalidValue(id, "PrincipalId", "Unable to verify.")
		}
		accounts = append(accounts, "arn:aws:iam::"+id+":root")
	}
	for _, action := range in.Actions {
		if !slices.Contains(actions, action) {
			return nil, invalidValue("SQS:"+action, "ActionName", "Only the queue owner is allowed to invoke this action.")
		}
		named = append(named, "SQS:"+action)
	}
	switch {
	case len(accounts) == 0:
		return nil, absent("AWSAccountIds")
	case len(named) == 0:
		return nil, absent("Actions")
	case len(named) > maxActions:
		return nil, thaw.Errorf(thaw.CodeOverLimit, "%d Actions were found, maximum allowed is %d.", len(named), maxActions)
	}
	s.Principal.AWS, s.Action = one(accounts), one(named)
	text, err := json.Marshal(s)
	return text, err
}

// one is a list, but a single element without its list, as AWS writes them.
func one(list []string) any {
	if len(list) == 1 {
		return list[0]
	}
	return list
}

func labelled(label string) func(json.RawMessage) bool {
	return func(text json.RawMessage) bool {
		var s struct{ Sid string }
		return json.Unmarshal(text, &s) == nil && s.Sid == label
	}
}

// changePolicy changes the queue's policy, makes one where there is none, and takes it away with its last statement.
func (a *API) changePolicy(ctx context.Context, q *queue, change func(*policy) error) error {
	return a.update(ctx, q, func(s *settings) error {
		p := policy{Version: "2008-10-17", ID: a.arn(q.name) + "/SQSDefaultPolicy"}
		if text := s.get(policyAttribute); text != "" {
			if err := json.Unmarshal([]byte(text), &p); err != nil {
				return thaw.Errorf(thaw.CodeUnsupportedOperation, "The queue's policy is not of the form that permissions can be added to or removed from. Set another with SetQueueAttributes.")
			}
		}
		if err := change(&p); err != nil {
			return err
		}
		text, err := json.Marshal(p)
		if err != nil {
			return fmt.Errorf("policy of queue %s: %w", q.name, err)
		}
		brought := map[string]string{policyAttribute: string(text)}
		if len(p.Statement) == 0 {
			brought[policyAttribute] = ""
		}
		s.Changed = a.now().UTC()
		return a.setAttributes(s, q.name, q.fifo, brought, false)
	})
}
