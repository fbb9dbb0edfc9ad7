//! `evergate cluster`: looks at a cluster, and has it changed, through any of its control nodes.

mod args;
mod call;
mod follow;
mod limit;
mod policy;
mod tables;
mod upstream;

use std::io::{IsTerminal as _, Write as _};

use evergate_domain::cluster::{Command, FORMAT, Region, Rings};
use evergate_proto::control::v1 as proto;
use serde_json::json;

use crate::cli::Exit;

pub(crate) use args::ClusterArgs;
use args::{Asked, MemberChange, OutputFormat, RegionChange};
use call::Link;
use follow::Following;
use limit::LimitChange;
use policy::PolicyChange;
pub(crate) use tables::state;

/// Exit 0 when it was done; 1 when it was refused or nobody could be asked.
pub(crate) async fn run(args: ClusterArgs) -> Exit {
    let ClusterArgs { output, yes, .. } = args;
    let done = async {
        if let Asked::Upstream(upstream) = &args.asked {
            return upstream::run(&args, upstream).await;
        }
        let mut link = Link::to(&args).await?;
        let ClusterArgs { asked, .. } = args;
        match asked {
            Asked::Upstream(_) => unreachable!("it connects by itself"),
            Asked::Status => status(&mut link, output).await,
            Asked::Nodes => {
                let view = link.view().await?;
                Ok(print(output, || tables::nodes(&view), || tables::nodes_json(&view)))
            }
            Asked::Ring => {
                let view = link.view().await?;
                let rings = Rings::of(&view);
                Ok(print(output, || tables::rings(&rings), || tables::rings_json(&rings)))
            }
            Asked::Drain { node, force } => {
                let force_note = if force { ", even if nobody else takes them" } else { "" };
                confirm(yes, &format!("Send the clients of {node} elsewhere{force_note}?"))?;
                let answer = link.execute(&Command::Drain { node, force }).await?;
                Ok(print_answer(output, &answer))
            }
            Asked::Undrain { node } => {
                let answer = link.execute(&Command::Undrain(node)).await?;
                Ok(print_answer(output, &answer))
            }
            Asked::Rebalance { region, cancel: true } => {
                let answer = link.execute(&Command::CancelRebalance(region)).await?;
                Ok(print_answer(output, &answer))
            }
            Asked::Rebalance { region, cancel: false } => {
                confirm(yes, &format!("End the streams of {region} that are at other edges than theirs?"))?;
                let answer = link.execute(&Command::Rebalance(region)).await?;
                Ok(print_answer(output, &answer))
            }
            Asked::Format { raise } => format(&mut link, raise, output, yes).await,
            Asked::Forget { node } => {
                confirm(yes, &format!("Forget {node}, which is lost?"))?;
                let answer = link.execute(&Command::Forget(node)).await?;
                Ok(print_answer(output, &answer))
            }
            Asked::Policy { change } => {
                let Some(change) = change else {
                    let view = link.view().await?;
                    return Ok(print(output, || tables::policies(&view), || tables::policies_json(&view)));
                };
                if let PolicyChange::Remove { stream } = &change {
                    confirm(yes, &format!("Remove the policy of {stream}?"))?;
                }
                let view = link.view().await?;
                let answer = link.execute(&change.command(&view)?).await?;
                Ok(print_answer(output, &answer))
            }
            Asked::Limit { change } => {
                if let Some(LimitChange::Remove { name }) = &change {
                    confirm(yes, &format!("Remove the limit of {name}?"))?;
                }
                match change.and_then(LimitChange::command) {
                    None => {
                        let view = link.view().await?;
                        Ok(print(output, || tables::limits(&view), || tables::limits_json(&view)))
                    }
                    Some(command) => Ok(print_answer(output, &link.execute(&command).await?)),
                }
            }
            Asked::Members { change } => members(&mut link, change, output, yes).await,
            Asked::Snapshot => {
                let view = link.view().await?;
                let audit = link.audit(0).await?;
                Ok(print(OutputFormat::Json, String::new, || tables::snapshot(&view, &audit)))
            }
            Asked::Regions { change } => regions(&mut link, change, output, yes).await,
            Asked::Audit { max } => {
                let entries = link.audit(max).await?;
                Ok(print(output, || tables::audit(&entries), || tables::audit_json(&entries)))
            }
            Asked::Watch => watch(&mut link, output).await,
        }
    };
    done.await.unwrap_or_else(|why: String| {
        let _ = writeln!(std::io::stderr().lock(), "evergate cluster: {why}");
        Exit::Failed
    })
}

async fn status(link: &mut Link, output: OutputFormat) -> Result<Exit, String> {
    let status = link.status().await?;
    let view = link.view().await?;
    Ok(print(output, || tables::status(&status, &view), || tables::status_json(&status, &view)))
}

async fn regions(
    link: &mut Link,
    change: Option<RegionChange>,
    output: OutputFormat,
    yes: bool,
) -> Result<Exit, String> {
    let view = link.view().await?;
    let command = match change {
        None => return Ok(print(output, || tables::regions(&view), || tables::regions_json(&view))),
        Some(RegionChange::Set { region, host }) => {
            let zones = view.regions().get(&region).map(|known| known.zones.clone()).unwrap_or_default();
            Command::SetRegion(Region { name: region, public_host: host, zones })
        }
        Some(RegionChange::Remove { region }) => {
            confirm(yes, &format!("Remove region {region}?"))?;
            Command::RemoveRegion(region)
        }
    };
    let answer = link.execute(&command).await?;
    Ok(print_answer(output, &answer))
}

async fn format(
    link: &mut Link,
    raise: Option<u32>,
    output: OutputFormat,
    yes: bool,
) -> Result<Exit, String> {
    let Some(format) = raise else {
        let (agreed, known) = (link.view().await?.format(), FORMAT);
        let table = || format!("agreed on {agreed}; this program understands {known}\n");
        return Ok(print(output, table, || json!({ "agreed": agreed, "understood": known })));
    };
    confirm(
        yes,
        &format!("Raise the format to {format}? Older programs are refused from then on, for good."),
    )?;
    let answer = link.execute(&Command::RaiseFormat(format)).await?;
    Ok(print_answer(output, &answer))
}

async fn members(
    link: &mut Link,
    change: Option<MemberChange>,
    output: OutputFormat,
    yes: bool,
) -> Result<Exit, String> {
    match &change {
        Some(MemberChange::Remove { id }) => {
            confirm(yes, &format!("Remove control node {id}, for good?"))?;
        }
        Some(MemberChange::Demote { id }) => confirm(yes, &format!("Take the vote from control node {id}?"))?,
        Some(MemberChange::Add { .. } | MemberChange::Promote { .. }) | None => {}
    }
    if let Some(change) = change {
        link.change_member(change).await?;
    }
    let members = link.members().await?;
    Ok(print(output, || tables::members(&members), || tables::members_json(&members)))
}

/// Prints what changes, until it is interrupted or the connection is lost.
async fn watch(link: &mut Link, output: OutputFormat) -> Result<Exit, String> {
    let mut following = Following::begin(link).await?;
    loop {
        let changes = following.next().await?;
        let (version, digest) = (following.view().version(), following.view().digest().to_string());
        let printed = match output {
            OutputFormat::Table => changes
                .iter()
                .map(|change| format!("{version}\t{}\n", tables::change(change)))
                .collect::<String>(),
            OutputFormat::Json => {
                let changes: Vec<_> = changes.iter().map(tables::change).collect();
                format!("{}\n", json!({ "version": version, "digest": digest, "changes": changes }))
            }
        };
        if std::io::stdout().lock().write_all(printed.as_bytes()).is_err() {
            return Ok(Exit::Ok);
        }
    }
}

fn print(
    output: OutputFormat,
    table: impl FnOnce() -> String,
    json: impl FnOnce() -> serde_json::Value,
) -> Exit {
    let text = match output {
        OutputFormat::Table => table(),
        OutputFormat::Json => format!("{:#}\n", json()),
    };
    // Nobody may be reading.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Exit::Ok
}

fn print_answer(output: OutputFormat, answer: &proto::Answer) -> Exit {
    match &answer.refusal {
        None => print(
            output,
            || format!("done, at version {} of the view\n", answer.version),
            || json!({ "version": answer.version }),
        ),
        Some(refusal) => {
            match output {
                OutputFormat::Table => {
                    let _ =
                        writeln!(std::io::stderr().lock(), "evergate cluster: refused: {}", refusal.message);
                }
                OutputFormat::Json => {
                    let refused = json!({ "version": answer.version, "refused": refusal.message });
                    print(output, String::new, || refused);
                }
            }
            Exit::Failed
        }
    }
}

fn confirm(yes: bool, question: &str) -> Result<(), String> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err("nobody is there to be asked; write --yes".to_owned());
    }
    let _ = write!(std::io::stderr().lock(), "{question} [y/N] ");
    let mut answer = String::new();
    let is_yes =
        std::io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes");
    if is_yes { Ok(()) } else { Err("nothing was done".to_owned()) }
}
