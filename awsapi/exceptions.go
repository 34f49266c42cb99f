package awsapi

import (
	"reflect"
	"unicode/utf8"

	"thaw"
)

// waived lists the members whose constraints are left to the operation itself, because AWS answers them from there.
//
//   - Runtime of a function: InvalidParameterValueException with a list of the runtimes that there are, as recorded in
//     "Value haskell at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: […] or be a valid ARN".
//     Only the implementation knows which there are.
//   - SelfManagedEventSource of an event source mapping: AWS's has Kafka's servers only, as host and port; here it also
//     names, by URL, an SQS API and a NATS server.
var waived = map[string]bool{
	"lambda.CreateFunction.Runtime":              true,
	"lambda.UpdateFunctionConfiguration.Runtime": true,

	"lambda.CreateEventSourceMapping.SelfManagedEventSource": true,
}

// documentedMax holds the bounds of Lambda shapes that AWS documents and answers for, but that its model lacks or has
// wider: a timeout is at most 900 seconds; more than 10,240 MB of memory is only for functions on managed instances.
var documentedMax = map[string]float64{"Timeout": 900, "MemorySize": 10_240}

// maxPlainName is the length of a function's name without ARN, in characters. AWS's documentation states it, its model
// does not.
const maxPlainName = 64

// exceptional gives the answer where AWS does not answer as its model says.
//
//   - A function name, not an ARN, of more than 64 characters: InvalidParameterValueException, with the text of a
//     constraint, as AWS has been recorded.
//   - A role name with a foreign character: IAM has its own sentence for the pattern.
func exceptional(service, operation string, n *node, in reflect.Value) error {
	for i := range n.fields {
		f := &n.fields[i]
		v, ok := held(in.Field(f.index))
		if !ok || f.node.kind != kindString {
			continue
		}
		s := v.String()
		switch {
		case service == "lambda" && f.Name == "FunctionName" && operation == "CreateFunction":
			ref, ok := thaw.ParseFunctionRef(s)
			if ok && utf8.RuneCountInString(ref.Name) > maxPlainName {
				return thaw.Errorf(thaw.CodeInvalidParameterValue,
					"1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to %d", s, maxPlainName)
			}
		case service == "iam" && f.node.shape.Pattern == `[\w+=,.@-]+` && !f.node.shape.compiled().match(s):
			return thaw.Errorf(thaw.CodeValidationError,
				"The specified value for %s is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-", memberPath("", f.Name))
		}
	}
	return nil
}

// missing is all that SQS answers from its model: MissingParameter for the first member that a request lacks. An empty
// list is the operation's to refuse, which has its own error for a batch without entries, and so are unknown names of
// attributes.
func missing(n *node, in reflect.Value) error {
	for i := range n.fields {
		f := &n.fields[i]
		v, ok := held(in.Field(f.index))
		switch {
		case !ok && f.Required && f.node.kind != kindList && f.node.kind != kindMap:
			return thaw.Errorf(thaw.CodeMissingParameter, "The request must contain the parameter %s.", f.Name)
		case ok && f.node.kind == kindList && f.node.elem.kind == kindStructure:
			for j := range v.Len() {
				if err := missing(f.node.elem, v.Index(j)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
