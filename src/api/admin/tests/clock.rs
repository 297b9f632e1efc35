//! A clock that jumps, seen and confirmed by an operator.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::domain::Timestamp;

const CLOCK: &str = "/v1/admin/clock";
const YEAR: u64 = 365 * 86_400;

#[tokio::test]
async fn a_jump_of_the_clock_is_shown_and_confirmed() {
    let service = Service::new().await;
    let at = |seconds| Timestamp::from_secs(T0 + seconds).to_string();
    let answer = service.get(CLOCK).await;
    let expected = json!({"believed": true, "now": at(0), "removes_by": at(0), "believed_in_seconds": null});
    assert_eq!(answer.body, expected);

    service.at(YEAR);
    service.clock.advance(Duration::from_hours(1));
    let answer = service.get(CLOCK).await.body;
    let expected = json!({"believed": false, "now": at(YEAR + 3600), "removes_by": at(3600), "believed_in_seconds": 86_400});
    assert_eq!(answer, expected);

    let answer = service.ask("POST", &format!("{CLOCK}/confirm"), &[], "").await.is(200);
    let expected = json!({"believed": true, "now": at(YEAR + 3600), "removes_by": at(YEAR + 3600), "believed_in_seconds": null});
    assert_eq!(answer.body, expected);
    assert_eq!(service.get(CLOCK).await.body, expected);
}
