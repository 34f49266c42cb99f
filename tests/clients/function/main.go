// Command function is the Lambda function that the Go session of the client tests deploys. The linker sets its release.
package main

import (
	"context"
	"fmt"

	"github.com/aws/aws-lambda-go/lambda"
)

var release = "unset"

type event struct {
	Order struct {
		Items []struct {
			Name string `json:"name"`
		} `json:"items"`
	} `json:"order"`
}

type answer struct {
	Release string   `json:"release"`
	Names   []string `json:"names"`
}

func main() {
	lambda.Start(func(_ context.Context, e event) (answer, error) {
		a := answer{Release: release, Names: []string{}}
		for _, item := range e.Order.Items {
			a.Names = append(a.Names, item.Name)
		}
		fmt.Println("this is release", release)
		return a, nil
	})
}
