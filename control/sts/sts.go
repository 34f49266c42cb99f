// Package sts answers the one operation of AWS STS that tools cannot do without: GetCallerIdentity. It hands out no
// credentials: there are no sessions and no roles to assume on this platform, so that AssumeRole, GetSessionToken and
// their kin stay unregistered and are answered 501, rather than with credentials that would mean nothing. It has no state.
package sts

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/sts"

	"thaw"
	"thaw/awsapi"
)

// Register adds GetCallerIdentity to the STS service. Every caller is the account's root user: whoever holds the
// platform's credentials may do everything that it can do.
func Register(s *awsapi.Service, account thaw.Account) {
	awsapi.Handle(s, "GetCallerIdentity", func(context.Context, *sdk.GetCallerIdentityInput) (*sdk.GetCallerIdentityOutput, error) {
		return &sdk.GetCallerIdentityOutput{
			Account: aws.String(account.ID),
			Arn:     aws.String("arn:aws:iam::" + account.ID + ":root"),
			UserId:  aws.String(account.ID),
		}, nil
	})
}
