# The server: collector, job, page and API in one process. The SDK is installed beside user code, not here.
FROM python:3.11-slim

RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /app
COPY . .
RUN uv sync --frozen --no-dev --no-editable --package pennytrace-server \
 && useradd --create-home pennytrace && mkdir /data && chown pennytrace /data

USER pennytrace
WORKDIR /data
ENV PATH=/app/.venv/bin:$PATH
EXPOSE 4317 4318 8900
CMD ["pennytrace", "serve"]
