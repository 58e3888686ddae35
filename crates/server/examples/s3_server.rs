//! A small S3-compatible server over a folder, for scripts that try servers with `--artifacts`: the one that the tests use too.
//! The folders in FOLDER are its buckets; the keys are read from the same variables as those of a Prover Server.
//!
//!   AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… s3_server FOLDER IP:PORT

use std::error::Error;

use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [folder, address] = std::env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "usage: s3_server FOLDER IP:PORT")?;
    let key = |name: &str| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    let keys = SimpleAuth::from_single(key("AWS_ACCESS_KEY_ID")?, key("AWS_SECRET_ACCESS_KEY")?);
    let files = s3s_fs::FileSystem::new(folder).map_err(|error| format!("{error:?}"))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(keys);
    let service = service.build();
    let answer = async move |request: axum::extract::Request| {
        let request = request.map(s3s::Body::http_body_unsync);
        match service.call(request).await {
            Ok(answer) => Ok(answer.map(axum::body::Body::new)),
            Err(error) => {
                Err((axum::http::StatusCode::INTERNAL_SERVER_ERROR, format!("{error:?}")))
            }
        }
    };
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, axum::Router::new().fallback(answer)).await?;
    Ok(())
}
