//! The runbook has all that it is to have.

use crate::{host::core::health::Health, telemetry::metric_names::ALL};

const RUNBOOK: &str = include_str!("../docs/operate.md");
const ALERTS: &str = include_str!("../../examples/operate/alerts.yml");

/// The cells of the first column of its tables.
fn is_in_a_first_column(name: &str) -> bool {
    let rows = RUNBOOK.lines().filter_map(|line| line.strip_prefix("| "));
    let mut cells = rows.filter_map(|row| row.split(" | ").next());
    cells.any(|cell| cell.contains(&format!("`{name}`")))
}

#[test]
fn the_runbook_has_each_metric() {
    for metric in ALL {
        assert!(is_in_a_first_column(metric.name), "{}", metric.name);
    }
}

#[test]
fn the_runbook_has_each_alert_and_no_other() {
    let alerts = ALERTS
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let alerts: Vec<_> = alerts.collect();
    assert!(alerts.len() > 5, "{alerts:?}");
    for alert in &alerts {
        assert!(is_in_a_first_column(alert), "{alert}");
    }
    let named = RUNBOOK
        .split('`')
        .filter(|word| word.starts_with("TowerDspy"));
    for name in named {
        assert!(alerts.contains(&name), "{name}");
    }
}

#[test]
fn the_runbook_has_each_state_of_health() {
    // A state more does not compile here until it has its name.
    let name = |health: &Health| match health {
        Health::Starting => "Starting",
        Health::Ready => "Ready",
        Health::Saturated => "Saturated",
        Health::Blocked { .. } => "Blocked",
        Health::Exhausted { .. } => "Exhausted",
        Health::Lost => "Lost",
    };
    let states = [
        Health::Starting,
        Health::Ready,
        Health::Saturated,
        Health::Blocked {
            frame: None,
            gil_held: false,
        },
        Health::Exhausted { abandoned: 1 },
        Health::Lost,
    ];
    for state in states {
        assert!(is_in_a_first_column(name(&state)), "{state:?}");
    }
}
