package lambda

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw/control/internal/operation"
)

// statementDocument is a policy statement with its members in AWS's order.
type statementDocument struct {
	Sid       string
	Effect    string
	Principal any
	Action    string
	Resource  string
	Condition *condition `json:",omitempty"`
}

type condition struct {
	StringEquals map[string]string `json:",omitempty"`
	Bool         map[string]string `json:",omitempty"`
	ArnLike      map[string]string `json:",omitempty"`
}

const invokeURL = "lambda:InvokeFunctionUrl"

// statement renders the statement that in asks for, on the function or qualifier that arn names.
func statement(arn string, in *sdk.AddPermissionInput) (string, error) {
	who, err := principal(operation.Value(in.Principal))
	if err != nil {
		return "", err
	}
	if in.FunctionUrlAuthType != "" && operation.Value(in.Action) != invokeURL {
		return "", invalid("FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action")
	}
	equals := map[string]string{}
	for key, val := range map[string]string{
		"lambda:FunctionUrlAuthType": string(in.FunctionUrlAuthType),
		"aws:PrincipalOrgID":         operation.Value(in.PrincipalOrgID),
		"AWS:SourceAccount":          operation.Value(in.SourceAccount),
		"lambda:EventSourceToken":    operation.Value(in.EventSourceToken),
	} {
		if val != "" {
			equals[key] = val
		}
	}
	c := condition{StringEquals: equals}
	if operation.Value(in.InvokedViaFunctionUrl) {
		c.Bool = map[string]string{"lambda:InvokedViaFunctionUrl": "true"}
	}
	if source := operation.Value(in.SourceArn); source != "" {
		c.ArnLike = map[string]string{"AWS:SourceArn": source}
	}
	s := statementDocument{Sid: operation.Value(in.StatementId), Effect: "Allow", Principal: who, Action: operation.Value(in.Action), Resource: arn}
	if len(c.StringEquals)+len(c.Bool)+len(c.ArnLike) > 0 {
		s.Condition = &c
	}
	return s.text()
}

// text is the statement as compact JSON.
func (s *statementDocument) text() (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

var (
	accountPattern = regexp.MustCompile(`^\d{12}$`)
	servicePattern = regexp.MustCompile(`^[a-z0-9.-]+\.amazonaws\.com(\.cn)?$`)
	// arnPrincipal takes users, roles, sessions and root.
	arnPrincipal = regexp.MustCompile(`^arn:aws[a-zA-Z-]*:(iam|sts)::\d{12}:(root|(user|role|assumed-role|federated-user)/[\w+=,.@/-]+)$`)
)

// principal is the Principal member for the one that AddPermission takes as text.
func principal(p string) (any, error) {
	switch {
	case p == "*":
		return "*", nil
	case accountPattern.MatchString(p):
		return map[string]string{"AWS": "arn:aws:iam::" + p + ":root"}, nil
	case servicePattern.MatchString(p):
		return map[string]string{"Service": p}, nil
	case arnPrincipal.MatchString(p):
		return map[string]string{"AWS": p}, nil
	}
	return nil, invalid("The provided principal was invalid. Please check the principal and try again.")
}
