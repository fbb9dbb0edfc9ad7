//! `evergate publish`: one event from the command line, or one for each line of standard input.
//!
//! Which events are under way, which are to be sent again and when to give up is decided in
//! [`pipeline`] and [`patience`], which know no socket and no clock; [`client`] speaks gRPC.

mod args;
mod client;
mod draft;
mod output;
mod patience;
mod pipeline;
mod refusal;
mod source;

use evergate_tls::Protocol;

use crate::cli::Exit;

pub(crate) use args::PublishArgs;
use output::Output;

/// Publishes what was asked for. Fails unless every event was acknowledged.
pub(crate) async fn run(args: PublishArgs) -> Exit {
    let mut output = Output::new(args.style());
    let dialer = args.tls().dialer(&[Protocol::Http2]);
    let (plan, dialer) = match args.plan().and_then(|plan| Ok((plan, dialer?))) {
        Ok(checked) => checked,
        Err(error) => {
            output.complain(&error);
            return Exit::Usage;
        }
    };
    let done = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Err("interrupted; what was not printed may or may not be in the log".to_owned()),
        done = client::publish(plan, &dialer, &mut output) => done,
    };
    output.finish();
    match done {
        Ok(()) if output.has_refused() => Exit::Failed,
        Ok(()) => Exit::Ok,
        Err(why) => {
            output.complain(&why);
            Exit::Failed
        }
    }
}
