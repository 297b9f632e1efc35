//! GET of the collection: filters, orders, pages, and parameters that do not fit together.

use super::*;

fn ids(answer: &Answer) -> Vec<&str> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let items = answer.body["items"].as_array().expect("items");
    items.iter().map(|item| item["id"].as_str().expect("an id")).collect()
}

/// Five sessions of `p`, a second apart; every other one READY; and one of another project.
async fn filled() -> Service {
    let service = Service::new();
    for second in 0..5 {
        service.at(second);
        let status = if second % 2 == 0 { "READY" } else { "CREATING" };
        service.create(json!({"id": format!("s{second}"), "project_id": "p", "status": status})).await;
    }
    service.create(json!({"id": "other", "project_id": "q", "status": "READY", "ttl_seconds": 5})).await;
    service
}

#[tokio::test]
async fn a_project_comes_newest_first() {
    let service = filled().await;
    assert_eq!(ids(&service.get("/v1/sessions?project_id=p").await), ["s4", "s3", "s2", "s1", "s0"]);
    for (query, wanted) in [
        ("order=asc", ["s0", "s1", "s2", "s3", "s4"].as_slice()),
        ("status=READY&order=desc", &["s4", "s2", "s0"]),
        ("created_after=2026-01-15T10:30:02Z&created_before=2026-01-15T10:30:04Z", &["s3", "s2"]),
        ("limit=2", &["s4", "s3"]),
    ] {
        let answer = service.get(&format!("/v1/sessions?project_id=p&{query}")).await;
        assert_eq!(ids(&answer), wanted, "{query}");
    }
    let whole = service.get("/v1/sessions?project_id=q").await;
    assert_eq!(whole.body["items"][0], service.get("/v1/sessions/other").await.body);
    assert_eq!(whole.body["next_cursor"], Value::Null);
}

#[tokio::test]
async fn a_status_comes_by_expiry() {
    let service = filled().await;
    assert_eq!(ids(&service.get("/v1/sessions?status=READY").await), ["other", "s0", "s2", "s4"]);
    let soon = "/v1/sessions?status=READY&expires_before=2026-01-15T11:30:02Z";
    assert_eq!(ids(&service.get(soon).await), ["other", "s0"]);
    assert_eq!(
        ids(&service.get("/v1/sessions?status=READY&expires_after=2026-01-15T11:30:02Z").await),
        ["s2", "s4"]
    );
    service.at(60);
    assert_eq!(ids(&service.get(soon).await), ["s0"]);
    assert_eq!(ids(&service.get(&format!("{soon}&include_expired=true")).await), ["other", "s0"]);
}

#[tokio::test]
async fn pages_follow_each_other_and_cursors_belong_to_their_listing() {
    let service = filled().await;
    let mut seen = Vec::new();
    let mut path = "/v1/sessions?project_id=p&limit=2".to_owned();
    let mut cursors = Vec::new();
    loop {
        let page = service.get(&path).await;
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        cursors.push(cursor.to_owned());
        path = format!("/v1/sessions?project_id=p&limit=2&cursor={cursor}");
        // Time goes on between the pages of one listing.
        service.at(10);
    }
    assert_eq!(seen, ["s4", "s3", "s2", "s1", "s0"]);
    assert_eq!(cursors.len(), 2);
    let cursor = &cursors[0];
    let longer = service.get(&format!("/v1/sessions?project_id=p&limit=3&cursor={cursor}")).await;
    assert_eq!(ids(&longer), ["s2", "s1", "s0"], "the length may change");
    for query in [
        format!("project_id=q&cursor={cursor}"),
        format!("project_id=p&order=asc&cursor={cursor}"),
        format!("project_id=p&status=READY&cursor={cursor}"),
        format!("project_id=p&include_expired=true&cursor={cursor}"),
        "project_id=p&cursor=AAAA".to_owned(),
        "project_id=p&cursor=***".to_owned(),
    ] {
        let refused = service.get(&format!("/v1/sessions?{query}")).await;
        assert_eq!(refused.problem(), (400, "invalid_cursor"), "{query}");
    }
}

#[tokio::test]
async fn a_page_ends_early_when_it_is_large() {
    let service = Service::new();
    for index in 0..150 {
        let state = "x".repeat(if index < 110 { 100_000 } else { 10 });
        service.create(json!({"id": format!("s{index:03}"), "project_id": "p", "state": state})).await;
    }
    let mut count = 0;
    let mut pages = 0;
    let mut path = "/v1/sessions?project_id=p&order=asc&limit=1000".to_owned();
    loop {
        let page = service.get(&path).await;
        count += ids(&page).len();
        pages += 1;
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        path = format!("/v1/sessions?project_id=p&order=asc&limit=1000&cursor={cursor}");
    }
    assert_eq!((count, pages), (150, 2));
}

#[tokio::test]
async fn parameters_that_do_not_fit_are_refused() {
    let service = filled().await;
    let nothing = service.get("/v1/sessions").await;
    assert_eq!(nothing.problem(), (400, "invalid_parameter"));
    assert!(nothing.body["detail"].as_str().expect("text").contains("status"), "{nothing:?}");
    for (query, field) in [
        ("include_expired=true", "project_id"),
        ("project_id=", "project_id"),
        ("project_id=p&expires_after=5", "expires_after"),
        ("project_id=p&expires_before=5", "expires_before"),
        ("status=READY&created_after=5", "created_after"),
        ("status=READY&created_before=5", "created_before"),
        ("status=READY&order=asc", "order"),
        ("status=ready", "status"),
        ("project_id=p&order=up", "order"),
        ("project_id=p&created_after=noon", "created_after"),
        ("project_id=p&limit=0", "limit"),
        ("project_id=p&limit=1001", "limit"),
    ] {
        let refused = service.get(&format!("/v1/sessions?{query}")).await;
        assert_eq!(
            (refused.problem(), &refused.body["field"]),
            ((400, "invalid_parameter"), &json!(field)),
            "{query}"
        );
    }
}
