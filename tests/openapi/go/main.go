// Command openapi uses a client that oapi-codegen has generated against the service whose address is its argument: put,
// get, 404.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"crawlcache.invalid/openapi/client"
)

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, service string) error {
	api, err := client.NewClientWithResponses(service)
	if err != nil {
		return err
	}
	url, ttl := "https://go.example/", int64(60)
	document := client.PutResultJSONRequestBody{"url": url, "success": true, "status_code": 200, "markdown": "text"}
	put, err := api.PutResultWithResponse(ctx, &client.PutResultParams{Url: url, Ttl: &ttl}, document)
	if err != nil {
		return err
	}
	if put.JSON201 == nil || put.JSON201.Outcome != "created" || put.JSON201.Url != url {
		return fmt.Errorf("put: %s: %s", put.Status(), put.Body)
	}

	fields := "markdown"
	got, err := api.GetResultWithResponse(ctx, &client.GetResultParams{Url: url, Fields: &fields})
	if err != nil {
		return err
	}
	if got.JSON200 == nil || (*got.JSON200)["markdown"] != "text" {
		return fmt.Errorf("get: %s: %s", got.Status(), got.Body)
	}

	missing, err := api.GetResultWithResponse(ctx, &client.GetResultParams{Url: url + "missing"})
	if err != nil {
		return err
	}
	problem := missing.ApplicationproblemJSON404
	if problem == nil || problem.Code != "result_not_found" || problem.Reason == nil || *problem.Reason != "absent" {
		return fmt.Errorf("404: %s: %s", missing.Status(), missing.Body)
	}
	return json.NewEncoder(os.Stdout).Encode(problem)
}
