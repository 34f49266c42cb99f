// Command gohandler is a function as people write it with aws-lambda-go; the test of the Runtime API runs it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type failure struct{}

func (failure) Error() string { return "typed" }

type request struct {
	Do string `json:"do"`
	N  int    `json:"n"`
}

func handle(ctx context.Context, r request) (any, error) {
	switch r.Do {
	case "context":
		lc, _ := lambdacontext.FromContext(ctx)
		_, hasDeadline := ctx.Deadline()
		return map[string]any{
			"id": lc.AwsRequestID, "arn": lc.InvokedFunctionArn, "name": lambdacontext.FunctionName,
			"custom": lc.ClientContext.Custom, "cognito": lc.Identity.CognitoIdentityID, "deadline": hasDeadline,
			"trace": os.Getenv("_X_AMZN_TRACE_ID"),
		}, nil
	case "error":
		return nil, errors.New("plain")
	case "typed":
		return nil, failure{}
	case "panic":
		panic("gone")
	case "exit":
		os.Exit(r.N)
	case "large":
		return strings.Repeat("x", r.N), nil
	case "stream":
		return io.MultiReader(strings.NewReader("first "), strings.NewReader("second")), nil
	case "break":
		return io.MultiReader(strings.NewReader("first "), broken{}), nil
	}
	return fmt.Sprint("hello ", r.N), nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("mid-stream") }

func main() {
	if os.Getenv("FAIL_INIT") != "" {
		fmt.Fprintln(os.Stderr, "no configuration")
		os.Exit(7)
	}
	lambda.Start(handle)
}
