//! The life of a subscriber, told with a clock that is handed in.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

/// A session, its clock, and what it wants done.
struct Play {
    session: Session,
    now: Instant,
}

fn settings() -> Settings {
    Settings { last_event_id: None, count_max: None, idle: Duration::from_secs(40), event_bytes_max: 1 << 20 }
}

fn play(settings: Settings) -> Play {
    let now = Instant::now();
    Play { session: Session::new(settings, 7, now), now }
}

impl Play {
    fn effects(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.session.take_effects(&mut effects);
        effects
    }

    fn input(&mut self, input: Input) -> Vec<Effect> {
        self.session.step(self.now, input);
        self.effects()
    }

    fn bytes(&mut self, text: &str) -> Vec<Effect> {
        self.input(Input::Bytes(Bytes::copy_from_slice(text.as_bytes())))
    }

    fn after(&mut self, time: Duration) -> Vec<Effect> {
        self.now += time;
        self.input(Input::Tick)
    }

    /// Waits as long as it asks for, and tells for how long.
    fn wake(&mut self) -> (Duration, Vec<Effect>) {
        let wait = self.session.wake_at(self.now) - self.now;
        (wait, self.after(wait))
    }

    /// A connection that is being served.
    fn open(&mut self) {
        self.effects();
        self.input(Input::Answered(Answer::Stream));
        self.bytes(OPEN);
    }

    fn refuse(&mut self, status: u16, retry_after: Option<Duration>) -> Vec<Effect> {
        self.effects();
        self.input(Input::Answered(Answer::Other {
            status,
            content_type: "application/problem+json".to_owned(),
            detail: Some("because".to_owned()),
            retry_after,
        }))
    }
}

const OPEN: &str = "retry: 1500\nevent: evergate.open\ndata: {\"connection\":\"c1\",\"cursor\":\"1-4\",\"resume\":\"live\",\"trace_id\":\"t1\"}\nid: 1-4\n\n";

fn connect(last_event_id: Option<&str>) -> Effect {
    Effect::Connect { last_event_id: last_event_id.map(str::to_owned) }
}

fn shown(effects: &[Effect]) -> Vec<&str> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Show(message) => Some(message.data.as_str()),
            Effect::Connect { .. } | Effect::Disconnect | Effect::Notice(_) | Effect::Finish(_) => None,
        })
        .collect()
}

fn reconnecting(why: &str, wait: Duration) -> Effect {
    Effect::Notice(Notice::Reconnecting { why: why.to_owned(), wait })
}

#[test]
fn events_are_shown_and_a_cut_resumes_after_the_last_of_them() {
    let mut play = play(settings());
    assert_eq!(play.effects(), [connect(None)]);
    play.open();
    assert_eq!(shown(&play.bytes("data: five\nid: 1-5\n\ndata: si")), ["five"]);
    assert_eq!(shown(&play.bytes("x\nid: 1-6\n\ndata: half an ev")), ["six"]);
    let wait = Duration::from_millis(1500);
    assert_eq!(play.input(Input::Cut(Cut::Ended)), [reconnecting("the stream ended", wait)]);
    // Not a moment before the server's `retry:`, which is jittered there already.
    assert_eq!(play.after(wait - Duration::from_millis(1)), []);
    assert_eq!(play.after(Duration::from_millis(1)), [connect(Some("1-6"))]);
}

#[test]
fn a_cut_before_the_first_event_resumes_from_the_open_frame() {
    let mut play = play(settings());
    play.open();
    play.input(Input::Cut(Cut::Failed("reset".to_owned())));
    assert_eq!(play.wake().1, [connect(Some("1-4"))]);
}

#[test]
fn a_wanted_position_is_asked_for_at_once_and_kept_until_there_is_a_newer_one() {
    let mut play = play(Settings { last_event_id: Some("1-2".to_owned()), ..settings() });
    assert_eq!(play.effects(), [connect(Some("1-2"))]);
    play.input(Input::Cut(Cut::Failed("refused".to_owned())));
    assert_eq!(play.wake().1, [connect(Some("1-2"))]);
}

#[test]
fn cursor_frames_and_positions_without_data_move_the_position() {
    let mut play = play(settings());
    play.open();
    play.bytes("event: evergate.cursor\ndata: {}\nid: 1-90\n\n");
    play.input(Input::Cut(Cut::Ended));
    assert_eq!(play.wake().1, [connect(Some("1-90"))]);
    play.open();
    play.bytes("id: 1-95\n\n");
    play.input(Input::Cut(Cut::Ended));
    assert_eq!(play.wake().1, [connect(Some("1-95"))]);
}

#[test]
fn a_gap_is_told_with_its_bounds_and_jumped_over() {
    let mut play = play(settings());
    play.open();
    let effects = play.bytes(
        "event: evergate.gap\ndata: {\"stream\":\"quote\",\"requested\":\"1-4\",\"first_missing\":\"1-5\",\"resumed_at\":\"1-10\",\"reason\":\"trimmed\",\"lost\":5}\nid: 1-9\n\n",
    );
    let gap = Gap {
        stream: "quote".to_owned(),
        requested: "1-4".to_owned(),
        resumed_at: "1-10".to_owned(),
        reason: "trimmed".to_owned(),
        lost: Some(5),
    };
    assert_eq!(effects[0], Effect::Notice(Notice::Gap(gap)));
    assert!(matches!(&effects[1], Effect::Show(message) if message.kind == "evergate.gap"));
    play.input(Input::Cut(Cut::Ended));
    assert_eq!(play.wake().1, [connect(Some("1-9"))]);
}

#[test]
fn a_gap_that_cannot_be_read_is_told_all_the_same() {
    let mut play = play(settings());
    play.open();
    let effects = play.bytes("event: evergate.gap\ndata: what?\nid: 1-9\n\n");
    assert_eq!(effects[0], Effect::Notice(Notice::Gap(Gap::default())));
}

#[test]
fn silence_longer_than_the_watchdog_is_a_cut_and_a_comment_is_no_silence() {
    let mut play = play(settings());
    play.open();
    assert_eq!(play.after(Duration::from_secs(39)), []);
    assert_eq!(play.bytes(":\n"), []);
    assert_eq!(play.after(Duration::from_secs(39)), []);
    let why = "nothing came for 40 s, not even a heartbeat";
    assert_eq!(
        play.after(Duration::from_secs(1)),
        [Effect::Disconnect, reconnecting(why, Duration::from_millis(1500))]
    );
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let mut play = play(settings());
    play.effects();
    assert_eq!(play.after(Duration::from_secs(9)), []);
    let effects = play.after(Duration::from_secs(1));
    assert_eq!(effects[0], Effect::Disconnect);
    assert!(
        matches!(&effects[1], Effect::Notice(Notice::Reconnecting { why, .. }) if why == "no answer within 10 s")
    );
}

#[test]
fn failures_double_the_wait_with_jitter_up_to_a_bound_and_success_resets_it() {
    let mut play = play(settings());
    let mut waits = Vec::new();
    for _ in 0..8 {
        play.effects();
        play.input(Input::Cut(Cut::Failed("refused".to_owned())));
        waits.push(play.wake().0.as_secs_f64());
    }
    for (failures, wait) in waits.iter().enumerate() {
        let least = f64::from(1_u32 << failures).min(30.0);
        assert!((least..=least * 1.5).contains(wait), "{failures}: {wait}");
    }
    assert!(waits[6] != waits[7], "without jitter all clients come back together");
    play.open();
    play.input(Input::Cut(Cut::Ended));
    assert_eq!(play.wake().0, Duration::from_millis(1500));
    // And the next failure begins anew, from the server's own wait.
    play.input(Input::Cut(Cut::Failed("refused".to_owned())));
    let wait = play.wake().0;
    assert!((Duration::from_millis(1500)..=Duration::from_millis(2250)).contains(&wait), "{wait:?}");
}

#[test]
fn a_stream_that_ends_before_it_opens_is_a_failure() {
    let mut play = play(settings());
    for failures in 0..3 {
        play.effects();
        play.input(Input::Answered(Answer::Stream));
        play.bytes("retry: 200\n");
        play.input(Input::Cut(Cut::Ended));
        assert!(play.wake().0 >= Duration::from_millis(200 << failures));
    }
}

#[test]
fn busy_waits_as_long_as_the_server_asks_and_keeps_the_position() {
    let mut play = play(Settings { last_event_id: Some("1-2".to_owned()), ..settings() });
    for _ in 0..3 {
        play.effects();
        play.input(Input::Answered(Answer::Stream));
        play.bytes("retry: 7000\nevent: evergate.busy\ndata: {\"reason\":\"full\",\"retry_ms\":7000}\n\n");
        let wait = Duration::from_secs(7);
        assert_eq!(play.input(Input::Cut(Cut::Ended)), [reconnecting("the server is busy (full)", wait)]);
        assert_eq!(play.after(wait), [connect(Some("1-2"))]);
    }
}

#[test]
fn goaway_is_told_and_its_retry_honoured() {
    let mut play = play(settings());
    play.open();
    let effects = play
        .bytes("retry: 2500\nevent: evergate.goaway\ndata: {\"reason\":\"shutdown\",\"retry_ms\":2500}\n\n");
    assert_eq!(effects[0], Effect::Notice(Notice::Goaway { reason: "shutdown".to_owned() }));
    play.input(Input::Cut(Cut::Ended));
    assert_eq!(play.wake(), (Duration::from_millis(2500), vec![connect(Some("1-4"))]));
}

#[test]
fn a_server_cannot_make_the_client_spin_or_sleep_for_ever() {
    let mut play = play(settings());
    play.open();
    play.bytes("retry: 0\n");
    play.input(Input::Cut(Cut::Ended));
    assert_eq!(play.wake().0, RETRY_MIN);
    play.open();
    play.bytes("retry: 99999999999999\n");
    play.input(Input::Cut(Cut::Ended));
    assert_eq!(play.wake().0, RETRY_MAX);
}

#[test]
fn lasting_refusals_finish() {
    for status in [400, 401, 403, 404, 405, 406, 410, 431, 302] {
        let refused = Outcome::Refused { status, detail: Some("because".to_owned()) };
        assert_eq!(play(settings()).refuse(status, None), [Effect::Finish(refused)]);
    }
    assert_eq!(play(settings()).refuse(204, None), [Effect::Finish(Outcome::NoMore)]);
    let not_a_stream = Outcome::NotAStream { content_type: "application/problem+json".to_owned() };
    assert_eq!(play(settings()).refuse(200, None), [Effect::Finish(not_a_stream)]);
}

#[test]
fn passing_refusals_are_retried_no_sooner_than_the_server_asks() {
    for status in [408, 429, 500, 502, 503, 504] {
        let mut play = play(settings());
        let effects = play.refuse(status, Some(Duration::from_secs(45)));
        let why_expected = format!("{status}: because");
        assert!(
            matches!(&effects[..], [Effect::Notice(Notice::Reconnecting { why, .. })] if *why == why_expected)
        );
        let (wait, effects) = play.wake();
        assert!((45.0..=67.5).contains(&wait.as_secs_f64()), "{wait:?}");
        assert_eq!(effects, [connect(None)]);
    }
}

#[test]
fn it_finishes_at_the_count_and_shows_nothing_beyond() {
    let mut play = play(Settings { count_max: Some(2), ..settings() });
    play.open();
    let effects = play.bytes("data: 1\n\nevent: evergate.cursor\ndata: {}\n\ndata: 2\n\ndata: 3\n\n");
    assert_eq!(shown(&effects), ["1", "{}", "2"]);
    assert_eq!(effects.last(), Some(&Effect::Finish(Outcome::Counted)));
    assert_eq!(play.bytes("data: 4\n\n"), []);
}

#[test]
fn a_malformed_stream_finishes_after_what_came_whole() {
    let mut play = play(settings());
    play.open();
    let effects = play.bytes("data: 1\n\ndat: 2\n\n");
    assert_eq!(shown(&effects), ["1"]);
    let error = DecodeError::UnknownField("dat".to_owned());
    assert_eq!(effects.last(), Some(&Effect::Finish(Outcome::Malformed(error))));
}

#[test]
fn the_user_can_interrupt_in_every_state() {
    let interrupted = [Effect::Finish(Outcome::Interrupted)];
    let mut connecting = play(settings());
    connecting.effects();
    assert_eq!(connecting.input(Input::Interrupt), interrupted);
    let mut streaming = play(settings());
    streaming.open();
    assert_eq!(streaming.input(Input::Interrupt), interrupted);
    let mut waiting = play(settings());
    waiting.open();
    waiting.input(Input::Cut(Cut::Ended));
    assert_eq!(waiting.input(Input::Interrupt), interrupted);
    assert_eq!(waiting.after(Duration::from_secs(60)), []);
}

#[test]
fn the_last_word_of_a_connection_given_up_changes_nothing() {
    let mut play = play(settings());
    play.open();
    play.after(Duration::from_secs(40));
    assert_eq!(play.bytes("data: late\nid: 9-9\n\n"), []);
    assert_eq!(play.input(Input::Cut(Cut::Ended)), []);
    assert_eq!(play.wake().1, [connect(Some("1-4"))]);
}
