/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of the command table, each in a file of its own. */
#ifndef SCOPE_CLI_COMMANDS_H
#define SCOPE_CLI_COMMANDS_H

#include "cli/cli.h"

extern const struct cli_command command_run, command_watch, command_events, command_metrics, command_history,
    command_ps, command_inspect, command_update, command_logs, command_prune, command_extract, command_config,
    command_dash, command_doctor, command_version, command_completion, command_help, command_collector, command_attach,
    command_detach, command_flows, command_report, command_export, command_crash, command_snapshot, command_daemon,
    command_k8s, command_reach, command_rules, command_shell, command_service, command_start, command_stop,
    command_lambda_extension, command_lambda_exec, command_lambda_plans;

#endif
