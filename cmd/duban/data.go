package main

import "github.com/spf13/cobra"

func verify() *cobra.Command  { return &cobra.Command{Use: "verify"} }
func rebuild() *cobra.Command { return &cobra.Command{Use: "rebuild"} }
