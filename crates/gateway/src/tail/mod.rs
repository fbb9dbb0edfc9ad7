//! `evergate tail`: follows streams as a careful client does.
//!
//! What to do next is decided in [`session`], which knows no socket and no clock; [`transport`]
//! carries it out over HTTP/1.1; [`output`] prints.

mod args;
mod output;
mod session;
mod transport;

use std::time::Instant;

use evergate_tls::Protocol;

use crate::cli::Exit;
use crate::dial::Dialer;

use args::Plan;
pub(crate) use args::TailArgs;
use output::Output;
use session::{Effect, Input, Outcome, Session};
use transport::{Line, Target};

/// Follows until the count is reached, the server refuses for good, or the user interrupts.
pub(crate) async fn run(args: TailArgs) -> Exit {
    let mut output = Output::new(args.style());
    let dialer = args.tls().dialer(&[Protocol::Http1]);
    let (plan, dialer) = match args.plan().and_then(|plan| Ok((plan, dialer?))) {
        Ok(checked) => checked,
        Err(error) => {
            output.complain(&error);
            return Exit::Usage;
        }
    };
    match follow(plan, dialer, &mut output).await {
        Ok(outcome) => {
            output.finish(&outcome);
            match outcome {
                Outcome::Counted | Outcome::Interrupted | Outcome::NoMore => Exit::Ok,
                Outcome::Refused { .. } | Outcome::NotAStream { .. } | Outcome::Malformed(_) => Exit::Failed,
            }
        }
        // Whoever read our output has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => {
            output.complain(&format!("cannot write the output: {error}"));
            Exit::Failed
        }
    }
}

async fn follow(plan: Plan, dialer: Dialer, output: &mut Output) -> std::io::Result<Outcome> {
    let target = Target::new(plan.url, dialer);
    let mut session = Session::new(plan.session, fastrand::u64(..), Instant::now());
    let mut line = Line::idle();
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut effects = Vec::new();
    loop {
        session.take_effects(&mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Connect { last_event_id } => {
                    line = Line::open(target.clone(), last_event_id);
                }
                Effect::Disconnect => line = Line::idle(),
                Effect::Show(message) => output.show(&message)?,
                Effect::Notice(notice) => output.notice(&notice),
                Effect::Finish(outcome) => return Ok(outcome),
            }
        }
        output.flush()?;
        let wake = session.wake_at(Instant::now());
        let input = tokio::select! {
            biased; // The user before the server, so that a flood cannot hide an interrupt.
            _ = &mut interrupt => Input::Interrupt,
            input = line.next() => input,
            () = tokio::time::sleep_until(wake.into()) => Input::Tick,
        };
        session.step(Instant::now(), input);
    }
}
