package sts

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/sts"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/apitest"
	"thaw/internal/ownbody"
)

func TestGetCallerIdentity(t *testing.T) {
	url := apitest.Serve(t, apitest.Service(t, "sts", func(s *awsapi.Service) { Register(s, thaw.Account{ID: "123456789012", Region: "us-east-1"}) }))
	client := sdk.New(sdk.Options{
		BaseEndpoint: &url, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("thaw", "thaw", ""), RetryMaxAttempts: 1, HTTPClient: ownbody.Client{},
	})
	out, err := client.GetCallerIdentity(t.Context(), &sdk.GetCallerIdentityInput{})
	if err != nil || *out.Account != "123456789012" || *out.Arn != "arn:aws:iam::123456789012:root" || *out.UserId != "123456789012" {
		t.Errorf("%+v %v", out, err)
	}
	if _, err = client.GetSessionToken(t.Context(), &sdk.GetSessionTokenInput{}); err == nil || !strings.Contains(err.Error(), "GetSessionToken") || !strings.Contains(err.Error(), "501") {
		t.Errorf("GetSessionToken: %v", err)
	}
}
