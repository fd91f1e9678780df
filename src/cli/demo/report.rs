//! What the demo says at the end.

use crate::sim::load::LoadReport;
use jiff::Timestamp;
use serde_json::{Value, json};

/// One JSON line, or a few lines for people.
pub fn print(
    as_json: bool,
    deployment: &Value,
    requests: &LoadReport,
    seed: u64,
    unlucky: &str,
) -> anyhow::Result<()> {
    if as_json {
        let result =
            json!({ "deployment": deployment, "requests": requests, "seed": seed, "unlucky": unlucky });
        println!("{}", json!({ "result": result }));
        return Ok(());
    }
    let time = |key: &str| deployment[key].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let seconds = match (time("started_at"), time("finished_at")) {
        (Some(start), Some(end)) => end.duration_since(start).as_secs_f64(),
        _ => 0.0,
    };
    println!();
    println!("state      {}", deployment["state"].as_str().unwrap_or("?"));
    println!(
        "instances  {} of {} succeeded",
        deployment["counts"]["succeeded"], deployment["counts"]["total"]
    );
    println!("attempts   {} ({unlucky} needed more than one)", deployment["attempts"]);
    println!("duration   {seconds:.1} s");
    println!("requests   {} sent, {} failed", requests.total, requests.failed);
    println!("seed       {seed}");
    requests.failures.iter().for_each(|failure| println!("  failed: {failure}"));
    Ok(())
}
