//! `evergate doctor`: examines the way a stream takes from the gateway to a subscriber.
//!
//! [`examine`] asks and listens and writes down what it saw as [`evidence`]; [`diagnosis`], which knows
//! no socket and no clock, says what is wrong; [`remedy`] says how to mend it, for the product that
//! [`product`] recognises; [`report`] prints.

mod args;
mod client;
mod diagnosis;
mod evidence;
mod examine;
mod listening;
mod product;
mod remedy;
mod report;

use crate::cli::Exit;

pub(crate) use args::DoctorArgs;

/// Examines, and prints what it found.
pub(crate) async fn run(args: DoctorArgs) -> Exit {
    let output = args.output();
    let plan = match args.plan() {
        Ok(plan) => plan,
        Err(error) => {
            report::complain(&error);
            return Exit::Usage;
        }
    };
    let evidence = examine::examine(&plan).await;
    let findings = diagnosis::diagnose(&evidence);
    match report::print(output, plan.url.as_str(), &evidence, &findings) {
        Ok(()) => {}
        // Whoever read our output has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        Err(error) => {
            report::complain(&format!("cannot write the output: {error}"));
            return Exit::Failed;
        }
    }
    if findings.iter().any(diagnosis::Finding::is_fault) { Exit::Failed } else { Exit::Ok }
}
