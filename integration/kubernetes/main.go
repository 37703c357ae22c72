// Command kubernetes is every program of a node with a control plane in one file: the first argument
// names the program, as in `kubernetes kubelet --config FILE`.
//
// The programs share most of their code, so one file is linked once and is read from disk once. Each case
// is what the main package of that program is (k8s.io/kubernetes/cmd).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	helm "helm.sh/helm/v4/pkg/cmd"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: kubernetes PROGRAM ARGUMENT...")
		os.Exit(2)
	}
	// Programs read their own arguments, and kubectl looks for plugins by its own name.
	name := os.Args[1]
	os.Args = os.Args[1:]
	var command *cobra.Command
	run := cli.Run
	switch name {
	case "kube-apiserver":
		command = apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		command = controllers.NewControllerManagerCommand()
	case "kube-scheduler":
		command = scheduler.NewSchedulerCommand()
	case "kube-proxy":
		command = proxy.NewProxyCommand()
	case "kubelet":
		command = kubelet.NewKubeletCommand(context.Background())
	case "kubectl":
		command = cmd.NewDefaultKubectlCommand()
		run = kubectl
	case "helm":
		command = helmCommand()
		run = helmCode
	default:
		fmt.Fprintf(os.Stderr, "no program %q\n", name)
		os.Exit(2)
	}
	os.Exit(run(command))
}

// kubectl prints errors its own way.
func kubectl(command *cobra.Command) int {
	if err := cli.RunNoErrOutput(command); err != nil {
		util.CheckErr(err)
	}
	return 0
}

// helm reads its plugins and logs before it has its commands.
func helmCommand() *cobra.Command {
	command, err := helm.NewRootCmd(os.Stdout, os.Args[1:], helm.SetupLogging)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return command
}

// helmCode runs helm, whose plugins have exit codes of their own.
func helmCode(command *cobra.Command) int {
	err := command.Execute()
	if failure, ok := errors.AsType[helm.CommandError](err); ok {
		return failure.ExitCode
	}
	if err != nil {
		return 1
	}
	return 0
}
