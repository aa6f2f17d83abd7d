"""The metrics that are promised: what dashboards, alerts and charts rely on.

Written down by hand: what the code says of itself is held against it.
"""

from __future__ import annotations

from typing import Final

_COUNTERS: Final = {
    "supervisor_connection_attempts_total": {"outcome"},
    "supervisor_disconnects_total": {"reason"},
    "supervisor_conversation_lists_total": {"outcome"},
    "supervisor_auth_refreshes_total": {"outcome"},
    "supervisor_messages_received_total": {"handler"},
    "supervisor_messages_handled_total": {"handler", "outcome"},
    "supervisor_messages_dropped_total": {"reason"},
    "supervisor_sends_total": {"outcome"},
    "supervisor_llm_tokens_total": {"handler", "model", "type"},
    "supervisor_llm_cost_total": {"handler", "model"},
    "supervisor_llm_reasoning_tokens_total": {"handler", "model"},
    "supervisor_llm_estimated_total": {"handler", "model"},
    "supervisor_agent_llm_tokens_total": {"agent", "type"},
    "supervisor_agent_llm_cost_total": {"agent"},
    "supervisor_journal_operations_total": set(),
    "supervisor_journal_errors_total": set(),
    "supervisor_watchdog_total": {"watchdog"},
    "supervisor_handovers_total": {"outcome"},
    "supervisor_takeovers_total": set(),
    "supervisor_fenced_total": set(),
    "supervisor_handed_in_total": set(),
    "supervisor_log_lines_lost_total": set(),
    "supervisor_budget_alerts_total": {"scope", "level"},
    "supervisor_unknown_total": {"kind"},
    "process_cpu_seconds_total": set(),
}
_GAUGES: Final = {
    "supervisor_agents": {"state"},
    "supervisor_agents_failing": set(),
    "supervisor_agents_unfindable": set(),
    "supervisor_conversations_unjoined": set(),
    "supervisor_agents_connecting_oldest_seconds": set(),
    "supervisor_inbox_messages": {"state"},
    "supervisor_inbox_oldest_seconds": set(),
    "supervisor_outbox_messages": {"state"},
    "supervisor_ready": set(),
    "supervisor_agents_file_refused": set(),
    "supervisor_registry_bytes": set(),
    "supervisor_registry_free_bytes": set(),
    "supervisor_registry_disk_bytes": set(),
    "supervisor_replicas": {"state"},
    "supervisor_agents_owned": set(),
    "supervisor_orphans": set(),
    "supervisor_lease_age_seconds": set(),
    "supervisor_registry_dead_rows": {"table"},
    "supervisor_registry_oldest_xmin_seconds": set(),
    "supervisor_memory_bytes": set(),
    "supervisor_memory_limit_bytes": set(),
    "supervisor_build_info": {"version", "python"},
    "supervisor_budget_used_ratio": {"scope"},
    "supervisor_agent_up": {"agent"},
    "supervisor_agent_info": {"agent", "name", "handler"},
    "supervisor_agent_trouble": {"agent", "trouble"},
    "supervisor_agent_inbox_messages": {"agent"},
    "supervisor_agent_auth_expiry_timestamp_seconds": {"agent"},
    "supervisor_agent_budget_used_ratio": {"agent"},
    "process_resident_memory_bytes": set(),
    "process_virtual_memory_bytes": set(),
    "process_start_time_seconds": set(),
    "process_open_fds": set(),
    "process_max_fds": set(),
}
_HISTOGRAMS: Final = {
    "supervisor_message_queue_seconds": {"handler"},
    "supervisor_message_handle_seconds": {"handler", "outcome"},
    "supervisor_message_send_seconds": {"handler"},
    "supervisor_message_latency_seconds": {"handler"},
    "supervisor_send_ack_seconds": set(),
    "supervisor_journal_commit_seconds": set(),
    "supervisor_handover_seconds": set(),
    "supervisor_event_loop_lag_seconds": set(),
    # OpenTelemetry's gen_ai.client.token.usage and gen_ai.client.operation.duration.
    "gen_ai_client_token_usage": {
        *("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type"),
    },
    "gen_ai_client_operation_duration_seconds": {
        *("error_type", "gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"),
    },
}
#: Each metric's type in Prometheus' text format, and its labels.
CONTRACT: Final[dict[str, tuple[str, set[str]]]] = {
    **{name: ("counter", labels) for name, labels in _COUNTERS.items()},
    **{name: ("gauge", labels) for name, labels in _GAUGES.items()},
    **{name: ("histogram", labels) for name, labels in _HISTOGRAMS.items()},
}
