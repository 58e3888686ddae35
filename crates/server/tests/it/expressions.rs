//! The expressions of alerts and dashboards, against the metrics that a server and a client really have. A name that no
//! process serves gives no error in Prometheus: the alert never fires, and the panel stays empty.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Type, labels and help of each metric.
type Families = BTreeMap<String, [String; 3]>;

/// Labels that Prometheus adds.
const ADDED: [&str; 3] = ["instance", "job", "le"];

/// Checks docs/alerts.yml and the dashboard of Grafana. Returns how many expressions there are in each.
pub(crate) fn check(families: &Families) -> [usize; 2] {
    let alerts = include_str!("../../../../docs/alerts.yml");
    let alerts: Vec<_> = alerts.lines().filter_map(|l| l.trim().strip_prefix("expr: ")).collect();
    let dashboard: Value =
        serde_json::from_str(include_str!("../../../../deploy/grafana/l2-prover.json")).unwrap();
    let mut panels = Vec::new();
    expressions(&dashboard, &mut panels);
    let both = alerts.iter().copied().chain(panels.iter().map(String::as_str));
    let wrong: Vec<_> = both.flat_map(|text| mistakes(text, families)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    [alerts.len(), panels.len()]
}

/// Every value of a key `expr` or `query` in `value` that is text.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if key == "expr" || text.contains("prover_") => {
                        found.push(text.clone());
                    }
                    _ => expressions(value, found),
                }
            }
        }
        _ => {}
    }
}

/// Names in `text` that no metric has, samples that its type does not have, and labels that none of its metrics has.
fn mistakes(text: &str, families: &Families) -> Vec<String> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut wrong = Vec::new();
    let mut labels: BTreeSet<&str> = ADDED.into();
    for name in text.split(|c| !word(c)).filter(|word| word.starts_with("prover_")) {
        // The values of Prometheus' own label `job`.
        if ["prover_server", "prover_client"].contains(&name) {
            continue;
        }
        let family = families.iter().find(|(family, [kind, ..])| {
            let ends: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                "info" => &["_info"],
                _ => &[""],
            };
            ends.iter().any(|end| name.strip_suffix(end) == Some(family))
        });
        match family {
            Some((_, [_, of, _])) => labels.extend(of.split(", ")),
            None => wrong.push(format!("{name} is no sample of a metric: {text}")),
        }
    }
    let grouped = text.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    let grouped = grouped.flat_map(|list| list.split(','));
    let matched = text.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let matched = matched.flat_map(|list| list.split(','));
    let matched = matched.filter_map(|one| one.split(['=', '!']).next());
    for label in grouped.chain(matched).map(str::trim).filter(|label| !label.is_empty()) {
        if !labels.contains(label) {
            wrong.push(format!("{label} is no label of these metrics: {text}"));
        }
    }
    wrong
}

#[test]
fn a_wrong_name_in_an_expression_is_found() {
    let family = |name: &str, kind: &str, labels: &str| {
        (name.into(), [kind.into(), labels.into(), "".into()])
    };
    let families: Families = [
        family("prover_server_jobs", "gauge", "state"),
        family("prover_server_failures", "counter", "class"),
        family("prover_server_proving_seconds", "histogram", "system"),
        family("prover_server_build", "info", "version"),
    ]
    .into();
    for right in [
        r#"max by (state, instance) (prover_server_jobs{state="ready"})"#,
        r#"sum(rate(prover_server_failures_total{class!="cancelled"}[1h])) > 5"#,
        "histogram_quantile(0.9, sum by (le) (rate(prover_server_proving_seconds_bucket[1h])))",
        r#"up{job="prover_server"} == 0 and prover_server_build_info"#,
    ] {
        assert_eq!(mistakes(right, &families), Vec::<String>::new());
    }
    for wrong in [
        "prover_server_job",
        "prover_server_jobs_total",
        "rate(prover_server_failures[1h])",
        "prover_server_proving_seconds",
        "prover_server_build",
        "max by (stat) (prover_server_jobs)",
        r#"prover_server_jobs{status="ready"}"#,
        r#"prover_server_failures_total{class="hung",state!="ready"}"#,
    ] {
        assert_eq!(mistakes(wrong, &families).len(), 1, "{wrong}");
    }
    let panels = serde_json::json!({ "panels": [{ "targets": [{ "expr": "a" }], "panels": [{ "targets": [{ "expr": "b" }] }] }],
        "templating": { "list": [{ "query": "label_values(prover_server_jobs, state)" }] } });
    let mut found = Vec::new();
    expressions(&panels, &mut found);
    found.sort();
    assert_eq!(found, ["a", "b", "label_values(prover_server_jobs, state)"]);
}
